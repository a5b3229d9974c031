% rebase('layout.tpl')
% from spicad.report import size
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a>{{' › %d' % rows[0].id if len(rows) == 1 else ''}}</p>
<h1>{{title}}</h1>
% if files:
<p>{{files}} product{{'s' if files > 1 else ''}}, {{size(bytes_)}} in all{{', and those of its earlier runs' if runs > 1 else ''}}, go at once and for good.</p>
% else:
<p>The products of {{'these %d processes' % len(rows) if len(rows) > 1 else 'this process'}} go at once and for good.</p>
% end
<p>The recipe stays, with logs, figures and configurations: the products can be made again from it, as long as the exposures are there.</p>
<div class="scroll" tabindex="0" role="region" aria-label="What is deleted">
<table class="dense">
<thead><tr><th class="number">No.</th><th>Name</th><th>Owner</th><th>Phase</th><th>Ended</th></tr></thead>
<tbody>
% for row in rows:
<tr><td class="number">{{row.id}}</td><td><a href="{{visit.link('/process/%d' % row.id)}}">{{row.name}}</a></td><td>{{row.owner}}</td><td><span class="phase {{row.phase.lower()}}">{{row.phase}}</span></td><td class="time">{{when(row.ended)}}</td></tr>
% end
</tbody></table></div>
<form method="post" action="{{visit.link(action)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <input type="hidden" name="sure" value="yes">
  <input type="hidden" name="verb" value="delete">
  % for row in rows:
  <input type="hidden" name="process" value="{{row.id}}">
  % end
  <div class="row">
    <p><button class="danger">Delete the products</button></p>
    <p><a class="button quiet" href="{{visit.link(back)}}">Keep them</a></p>
  </div>
</form>
