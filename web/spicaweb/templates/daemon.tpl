% rebase('layout.tpl')
% from spicad.commands.printing import took
% from spicad.report import size
% life = state['life']
<h1>The daemon</h1>
<div id="progress" data-seconds="8" data-refresh="{{visit.link('/daemon')}}">
% if life.is_running and not life.is_late:
<p class="done">spicad runs on {{state['node']}}.</p>
% elif life.is_running:
<p class="note">spicad runs on {{state['node']}}, but has not looked at its spool since {{when(life.seen)}}, {{took(state['now'] - life.seen)}} ago.</p>
% elif life.seen:
<p class="problems" role="alert">spicad does not run. Its last sign of life was at {{when(life.seen)}}, {{took(state['now'] - life.seen)}} ago. What is handed over waits until it runs again; nothing is lost.</p>
% else:
<p class="problems" role="alert">spicad has never run on this spool. What is handed over waits until it does.</p>
% end
% if state['holds']:
<p class="note">No step starts: {{state['holds']}}</p>
% end
<dl class="facts">
  <dt>Slots</dt><dd>{{state['slots_used']}} of {{state['slots']}} in use <progress max="{{max(state['slots'], 1)}}" value="{{min(state['slots_used'], state['slots'])}}" aria-label="Slots in use"></progress></dd>
  <dt>Load</dt><dd>{{' '.join('%.2f' % each for each in state['load'])}} over 1, 5 and 15 minutes{{', above %g nothing starts' % state['load_limit'] if state['load_limit'] else ''}}</dd>
  % if state['cluster']:
  <dt>Nodes</dt><dd>{{'; '.join(state['cluster'])}}</dd>
  % end
  % for disk in state['disks']:
  <dt>Disk of {{disk.path}}</dt><dd>{{size(disk.free)}} of {{size(disk.total)}} free <progress max="100" value="{{disk.used_percent}}" aria-label="Disk in use"></progress></dd>
  % end
  <dt>Processes</dt><dd>{{', '.join('%d %s' % (count, phase) for phase, count in sorted(state['counts'].items())) or 'none'}}</dd>
</dl>
<h2>Running</h2>
% if state['running']:
<div class="scroll" tabindex="0" role="region" aria-label="Running steps">
<table class="dense">
<thead><tr><th class="number">Process</th><th>Name</th><th>Owner</th><th>Step</th><th>On</th><th>Node</th><th>For</th></tr></thead>
<tbody>
% for each in state['running']:
% mine = visit.may('see', thing_of(each))
<tr><td class="number">{{each['process']}}</td>
<td>\\
% if mine:
<a href="{{visit.link('/process/%d' % each['process'])}}">{{each['name']}}</a>\\
% end
</td><td>{{each['owner']}}</td><td>{{each['application']}}</td><td>{{each['label'] if mine else ''}}</td><td>{{each['node'] or each['why']}}</td><td>{{took(state['now'] - each['started']) if each['started'] else ''}}</td></tr>
% end
</tbody></table></div>
% else:
<p class="soft">Nothing.</p>
% end
<h2>Queue</h2>
% if state['queued']:
<div class="scroll" tabindex="0" role="region" aria-label="Queue">
<table class="dense">
<thead><tr><th class="number">Process</th><th>Name</th><th>Owner</th><th>Group</th><th class="number">Score</th><th>Of which</th><th>Submitted</th><th>Not before</th></tr></thead>
<tbody>
% for each in state['queued']:
% row = each['row']
<tr><td class="number">{{row.id}}</td><td>\\
% if visit.may_process('see', row):
<a href="{{visit.link('/process/%d' % row.id)}}">{{row.name}}</a>\\
% end
</td><td>{{row.owner}}</td><td>{{row.group}}</td><td class="number">{{'%.2f' % each['score']}}</td><td class="small">{{', '.join('%s %.2f' % pair for pair in each['terms'].items())}}</td><td class="time">{{when(row.submitted)}}</td><td class="time">{{when(each['not_before'])}}</td></tr>
% end
</tbody></table></div>
% if state['queued_total'] > len(state['queued']):
<p class="soft">and {{state['queued_total'] - len(state['queued'])}} more.</p>
% end
% else:
<p class="soft">Nothing waits.</p>
% end
% if state['nodes'] or state['by_user']:
<h2>Who uses the slots</h2>
<dl class="facts">
  % for heading, counts in (('By user', state['by_user']), ('By group', state['by_group']), ('By node', state['nodes'])):
  <dt>{{heading}}</dt><dd>{{', '.join('%s %d' % pair for pair in counts.items()) or 'none'}}</dd>
  % end
</dl>
% end
</div>
<script src="{{static(visit, 'refresh.js')}}" defer></script>
