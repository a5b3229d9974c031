<div class="progress-head">
  <p class="state"><span class="phase {{progress['phase'].lower()}}">{{progress['phase']}}</span>
  % if progress['elapsed']:
  <span class="soft">{{'took' if progress['is_over'] else 'for'}} {{progress['elapsed']}}</span>
  % end
  % if progress['steps_total']:
  <span class="soft">{{progress['steps_done']}} of {{progress['steps_total']}} steps</span>
  % end
  </p>
  % if progress['why'] and not progress['why'].startswith('taken from'):
  <p class="{{'note' if progress['phase'] in ('HELD', 'ABORTED') else 'problems' if progress['phase'] == 'ERROR' else 'soft'}}">{{progress['why']}}</p>
  % end
</div>
% if progress['tasks']:
<ul class="bars">
  % for task in progress['tasks']:
  % good = task['done'] + task['reused']
  <li>
    <span class="of">{{task['application']}}</span>
    <progress max="{{task['total']}}" value="{{good + task['failed'] + task['skipped']}}" class="{{'bad' if task['failed'] else ''}}" aria-label="{{task['application']}}: {{good}} of {{task['total']}} steps done"></progress>
    <span class="counts">{{good}}/{{task['total']}}{{', %d reused' % task['reused'] if task['reused'] else ''}}{{', %d running' % task['running'] if task['running'] else ''}}{{', %d failed' % task['failed'] if task['failed'] else ''}}{{', %d skipped' % task['skipped'] if task['skipped'] else ''}}</span>
  </li>
  % end
</ul>
% end
% if progress['running']:
<h2>Running now</h2>
<ul class="plain">
  % for step in progress['running']:
  <li><a href="{{visit.link('/process/%d/run/%d/step/%d' % (progress['process'], progress['run'], step['number']))}}">{{step['application']}} {{step['label']}}</a>
    <span class="soft">{{step['waits'] or 'on %s, %s so far' % (step['node'] or 'this node', step['so_far'])}}{{', attempt %d' % step['attempt'] if step['attempt'] > 1 else ''}}</span></li>
  % end
  % if progress['more_running']:
  <li class="soft">and {{progress['more_running']}} more</li>
  % end
</ul>
% end
% if progress['tail'] and progress['tail']['lines']:
<p class="soft small">The last lines of {{progress['tail']['words']}}</p>
<pre class="tail" tabindex="0">{{'\n'.join(progress['tail']['lines'])}}</pre>
% end
% standing = progress['standing']
% if standing:
% if standing['holds']:
<div class="note">
  <p>{{'Its next steps wait, since' if progress['phase'] == 'EXECUTING' else 'It waits, since'}}</p>
  <ul>
    % for hold in standing['holds']:
    <li>{{hold}}</li>
    % end
  </ul>
</div>
% elif progress['phase'] == 'QUEUED':
<p>{{'It waits for its turn.' if standing['ahead_queued'] + standing['ahead_executing'] else 'Nothing holds it: it is about to start.'}}</p>
% end
% if standing['eta']:
<p>It should be done in {{standing['eta'][0]}} to {{standing['eta'][1]}}, by how long such steps have taken.</p>
% end
% if progress['phase'] != 'HELD':
<p class="soft">Ahead of it: {{standing['ahead_queued']}} queued, {{standing['ahead_executing']}} executing. Slots: {{standing['slots']}}.
Score {{'%.2f' % sum(standing['score'].values())}}: {{', '.join('%s %.2f' % pair for pair in standing['score'].items())}}.</p>
% end
% end
