% rebase('layout.tpl')
% from spicad.report import size
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
<div class="head">
<h1>Check</h1>
<div class="actions">
% if vetted and not wrong:
<form method="post" action="{{visit.link('/draft/%d/run' % kept.id)}}"><input type="hidden" name="csrf" value="{{visit.csrf}}"><button>Run</button></form>
% end
<form method="post" action="{{visit.link('/draft/%d/throw-away' % kept.id)}}"><input type="hidden" name="csrf" value="{{visit.csrf}}"><button class="quiet">Throw away</button></form>
</div>
</div>
% if wrong:
<div class="problems" role="alert">
  <p>It cannot run yet:</p>
  <ul>
  % for each in wrong:
  <li>{{each}}</li>
  % end
  </ul>
  % if not recipe.rules:
  <p>Choose the <a href="{{visit.link('/draft/%d/tasks' % kept.id)}}">tasks</a> first: rules say what runs.</p>
  % end
</div>
% end
% if not runs:
<p class="note">The daemon does not run just now. What you hand over waits until it does.</p>
% end
% if vetted:
% plan = vetted.plan
<dl class="facts">
  <dt>Rules</dt><dd>{{vetted.rules.title}}: {{vetted.rules.summary}}</dd>
  <dt>Exposures</dt><dd>{{len(plan.labels)}} kept, {{len({each.exposure for each in plan.dropped})}} left out</dd>
  <dt>Steps</dt><dd>{{len(plan.steps)}}</dd>
  <dt>Disk forecast</dt><dd>at most about {{size(plan.forecast_bytes)}}{{' of %s free' % size(free_bytes) if free_bytes else ''}}</dd>
% include('rooms.tpl', rooms=rooms, forecast=plan.forecast_bytes, is_own=True)
  <dt>Priority</dt><dd>{{'%.0f' % sum(terms.values())}} points as a {{rank}}: {{', '.join('%s %.0f' % pair for pair in terms.items())}}; more with age</dd>
</dl>
% if plan.forecast_bytes > free_bytes > 0:
<p class="note">The forecast is more than what is free on the disk.</p>
% end
<h2>What would run</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Tasks of the plan">
<table class="dense">
<thead><tr><th>Task</th><th class="number">Steps</th><th class="number">Exposures</th><th>On</th></tr></thead>
<tbody>
% for task in tasks:
<tr><td>{{task['application']}}{{' (only where needed)' if task.get('is_preparing') else ''}}</td><td class="number">{{task['steps']}}</td><td class="number">{{len(task['exposures'])}}</td>
<td class="small">{{', '.join('%s (%d)' % label if label[1] > 1 else label[0] for label in task['labels'][:12])}}{{' and %d more' % (len(task['labels']) - 12) if len(task['labels']) > 12 else ''}}</td></tr>
% end
</tbody></table></div>
% if plan.dropped:
<h2>Left out</h2>
<ul>
% for each in plan.dropped[:most_shown]:
<li><strong>{{each.exposure}}</strong>{{' not in ' + each.task if each.task else ''}}: {{each.why}}</li>
% end
</ul>
% end
% notes = [(each.path.name, words) for each in plan.exposures.values() for words in each.warnings]
% if plan.notes or notes:
<h2>Please note</h2>
<ul>
% for note in plan.notes[:most_shown]:
<li>{{note}}</li>
% end
% for name, words in notes[:most_shown]:
<li>{{name}}: {{words}}</li>
% end
</ul>
% end
<details><summary>Configurations in force</summary>
% for task, setup in sorted(vetted.setups.items()):
% if setup.effective:
<h3>{{setup.application}} {{setup.tool.version}}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Keywords of {{setup.application}}"><table class="dense"><thead><tr><th>Keyword</th><th>Value</th><th>Set by</th></tr></thead><tbody>
% for keyword, (value, origin) in sorted(setup.effective.settings.items()):
% if origin != "the tool's default":
<tr><td><code>{{keyword}}</code></td><td>{{value}}</td><td>{{origin}}</td></tr>
% end
% end
</tbody></table></div>
% end
% end
</details>
% end
% if text:
<details><summary>The job file</summary><pre tabindex="0">{{text}}</pre></details>
% end
