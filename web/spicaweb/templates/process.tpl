% rebase('layout.tpl')
% from spicad.report import number, size
% over = progress['is_over']
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › {{row.id}}</p>
<div class="head">
  <h1>{{row.name}}</h1>
  <div class="actions">
    % for verb, words in orders:
    % if verb == 'delete':
    <a class="button danger" href="{{visit.link('/process/%d/delete' % row.id)}}">{{words}}</a>
    % elif verb != 'keep':
    <form method="post" action="{{visit.link('/process/%d/%s' % (row.id, verb))}}">
      <input type="hidden" name="csrf" value="{{visit.csrf}}">
      <button class="{{'danger' if verb == 'cancel' else 'quiet'}}">{{words}}</button>
    </form>
    % end
    % end
    % if capsule:
    <a class="button quiet" href="{{visit.link('/new', copy='%d.%d' % (row.id, capsule.number))}}">Change and run again</a>
    % end
  </div>
</div>
% if order and order.why:
<div class="problems" role="alert"><p>The daemon refused: {{order.why}}</p></div>
% elif order and order.is_taken:
<p class="done" role="status">The daemon has taken it.</p>
% elif order:
<p class="note" role="status">Handed over. The daemon has not taken it yet.</p>
% end
<section class="card" id="progress" data-seconds="{{2 if progress['phase'] == 'EXECUTING' or order else 4}}"{{!' data-refresh="%s"' % visit.link('/process/%d/progress' % row.id) if refresh and not progress['is_over'] else ''}}>
% include('progress.tpl', progress=progress, visit=visit)
</section>
% if refresh:
<script src="{{static(visit, 'refresh.js')}}" defer></script>
% end
% if row.phase == 'ARCHIVED':
<p class="note">Its products are gone; the recipe is kept, and can be copied and run again.</p>
% elif row.expires:
<p class="soft">Its products are kept until {{when(row.expires)}}.</p>
% if most_days and any(verb == 'keep' for verb, _ in orders):
<form class="row keep" method="post" action="{{visit.link('/process/%d/keep' % row.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <p><label for="days">Days from now{{' (at most %d)' % most_days if most_days < 36525 else ''}}</label>
  <input id="days" name="days" type="number" min="1" max="{{most_days}}" value="{{min(most_days, 30)}}" inputmode="numeric"></p>
  <p><button class="quiet">Keep longer</button></p>
</form>
% end
% end
% if capsule and not is_latest:
<p class="note">What follows is of run {{capsule.number}}; run {{row.run}} is {{row.phase}}.</p>
% end
% if len(runs) > 1:
<p class="soft">Runs:
  % for each in runs:
  % if each == capsule.number:
  <strong>{{each}}</strong>
  % else:
  <a href="{{visit.link('/process/%d/run/%d' % (row.id, each))}}">{{each}}</a>
  (<a href="{{visit.link('/difference', one='%d.%d' % (row.id, each), other='%d.%d' % (row.id, capsule.number))}}">difference</a>)
  % end
  % end
</p>
% end
% if record['figures']:
<h2>Key figures</h2>
<div class="figures">
  % groups = {}
  % for figure in record['figures']:
  %   heading, _, words = figure['label'].partition(': ')
  %   groups.setdefault(heading if words else '', []).append((words or heading, figure))
  % end
  % for heading, figures in groups.items():
  <section>
  % if heading:
  <h3>{{heading}}</h3>
  % end
  <dl>
  % for words, figure in figures:
  <div><dt>{{words}}</dt><dd>{{number(figure['value'])}} <span class="unit">{{figure['unit']}}</span></dd></div>
  % end
  </dl>
  </section>
  % end
</div>
% end
% if judged:
<h2>Quality</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Quality">
<table class="dense"><thead><tr><th>Of</th><th>Grade proposed</th><th class="number">Seeing <span class="unit">arcsec</span></th><th class="number">Elongation</th><th class="number">Limiting magnitude</th><th class="number">Stars</th><th>Why not better</th></tr></thead><tbody>
% for each, report in judged:
<tr><td><a href="{{visit.link('%s/quality/%d' % (run_path, each.number))}}">{{each.name.removesuffix('.quality.json')}}</a>{{', a stack' if report.kind == 'stack' else ''}}</td>
<td><span class="grade grade-{{report.grade.lower()}} proposed">{{report.grade}}</span></td>
% for name, form in (('seeing', '%.2f'), ('elongation', '%.2f'), ('limiting_magnitude', '%.2f'), ('stars', '%.0f')):
<td class="number">{{form % report.figures[name] if report.figures.get(name) is not None else ''}}</td>
% end
<td class="why">{{report.problem or '; '.join(reason.words for reason in report.reasons[:2])}}</td></tr>
% end
</tbody></table></div>
% end
% images = [each for each in products if each.kind == 'image'][:12]
% if images:
<h2>Previews</h2>
<ul class="previews">
  % for each in images:
  <li><a href="{{visit.link('%s/product/%d' % (run_path, each.number))}}"><img src="{{visit.link('%s/product/%d/small.png' % (run_path, each.number))}}" alt="Preview of {{each.name}}" loading="lazy"></a>
  <span>{{each.name}}</span> <span class="soft small">{{each.words}}</span></li>
  % end
</ul>
% end
% drawn = [each for each in products if each.kind == 'plot' and '.quality-' not in each.name][:12]
% if drawn:
<h2>Plots</h2>
<ul class="previews plots">
  % for each in drawn:
  <li><a href="{{visit.link('%s/product/%d/plot' % (run_path, each.number))}}"><img src="{{visit.link('%s/product/%d/plot' % (run_path, each.number))}}" alt="{{each.name}}" loading="lazy"></a>
  <span>{{each.name}}</span></li>
  % end
</ul>
% end
% if products:
<div class="head">
  <h2>Products</h2>
  <p><a class="button quiet" href="{{visit.link(run_path + '/all.tar')}}">All as one tar, {{size(sum(each.bytes for each in products))}} and logs</a></p>
</div>
<div class="scroll" tabindex="0" role="region" aria-label="Products">
<table class="dense">
<thead><tr><th>Product</th><th>What</th><th class="number">Size</th><th class="digest">Digest of its content</th><th><span class="hidden">Fetch</span></th></tr></thead>
<tbody>
% for each in products[:most_listed]:
<tr>
  <td>\\
% if each.kind != 'file':
<a href="{{visit.link('%s/%s/%d' % (run_path, 'quality' if each.kind == 'quality' else 'product', each.number))}}">{{each.name}}</a>\\
% else:
{{each.name}}\\
% end
</td>
  <td>{{each.words}}</td><td class="number">{{size(each.bytes)}}</td>
  <td class="digest"><code title="{{each.digest}}">{{each.digest[:16]}}</code></td>
  <td><a href="{{visit.link('%s/product/%d/file' % (run_path, each.number))}}">Fetch<span class="hidden"> {{each.name}}</span></a></td>
</tr>
% end
</tbody>
</table>
</div>
% if len(products) > most_listed:
<p class="soft">and {{len(products) - most_listed}} more, all in the tar.</p>
% end
% end
% if record['dropped']:
<h2>Exposures left out</h2>
<ul>
  % for each in record['dropped'][:most_listed]:
  <li><strong>{{each['exposure']}}</strong>: {{each['why']}}</li>
  % end
  % if len(record['dropped']) > most_listed:
  <li class="soft">and {{len(record['dropped']) - most_listed}} more</li>
  % end
</ul>
% end
% if record['steps']:
<div class="head"><h2>Steps</h2>
% if len(record['steps']) > most_steps:
<p><a href="{{visit.link(run_path + '/steps')}}">All {{len(record['steps'])}} steps</a></p>
% end
</div>
% failed = [step for step in record['steps'] if step['state'] in ('failed', 'running')]
% rest = [step for step in record['steps'] if step['state'] not in ('failed', 'running')]
% include('step_rows.tpl', steps=sorted((failed + rest)[:most_steps], key=lambda step: step['number']), run_path=run_path or '/process/%d/run/%d' % (row.id, row.run))
% end
% if configured:
<h2>Configurations used</h2>
% for setup in configured:
<details>
  <summary>{{setup.application}} {{setup.version}}<span class="soft">, {{len(setup.chosen)}} keywords set</span></summary>
  % if setup.chosen:
  <div class="scroll" tabindex="0" role="region" aria-label="Keywords of {{setup.application}}">
  <table class="dense">
  <thead><tr><th>Keyword</th><th>Value</th><th>Set by</th></tr></thead>
  <tbody>
  % for keyword in setup.chosen:
  <tr><td><code>{{keyword.name}}</code></td><td>{{keyword.value or '(empty)'}}</td><td>{{keyword.level}}</td></tr>
  % end
  </tbody></table></div>
  % end
  <p><a href="{{visit.link('%s/configuration/%s' % (run_path, setup.folder))}}">The whole of it as the tool read it</a></p>
</details>
% end
% end
% if provenance and provenance['exposures']:
<h2>What went in</h2>
<details>
  <summary>{{len(provenance['exposures'])}} exposures</summary>
  <div class="scroll" tabindex="0" role="region" aria-label="Exposures">
  <table class="dense">
  <thead><tr><th>Exposure</th><th>Object</th><th>Filter</th><th>Instrument</th><th class="number">Time</th><th class="number">CCDs</th><th>File</th></tr></thead>
  <tbody>
  % for each in provenance['exposures'][:500]:
  <tr><td>{{each['label']}}</td><td>{{each['object'] or ''}}</td><td>{{each['filter'] or ''}}</td><td>{{each['instrument'] or ''}}</td>
  <td class="number">{{number(each['t_exptime']) + ' s' if each['t_exptime'] else ''}}</td><td class="number">{{each['ccds']}}</td><td><code>{{each['path']}}</code></td></tr>
  % end
  </tbody></table></div>
</details>
% for note in provenance['notes']:
<p class="note">{{note}}</p>
% end
% end
<h2>Facts</h2>
<dl class="facts">
  <dt>Owner</dt><dd>{{row.owner}}, group {{row.group}}, rank {{record['rank']}}</dd>
  % if record['rules']:
  <dt>Rules</dt><dd>{{record['rules']}}</dd>
  % end
  % if record['node']:
  <dt>Node</dt><dd>{{record['node']}}, Spica {{provenance['facts'].get('spica', '')}}</dd>
  % end
  <dt>Submitted</dt><dd>{{when(row.submitted)}}</dd>
  % if row.started:
  <dt>Started</dt><dd>{{when(row.started)}}</dd>
  % end
  % if row.ended:
  <dt>Ended</dt><dd>{{when(row.ended)}}</dd>
  % end
  % if row.mail:
  <dt>Report to</dt><dd>{{row.mail}}</dd>
  % end
  % if row.expires and row.phase != 'ARCHIVED':
  <dt>Kept until</dt><dd>{{when(row.expires)}}</dd>
  % end
  <dt>Disk forecast</dt><dd>at most about {{size(row.forecast_bytes)}}</dd>
</dl>
% if capsule:
<p><a href="{{visit.link(run_path + '/recipe/job')}}">Job file</a> · <a href="{{visit.link(run_path + '/recipe/rules')}}">Rules</a>
% if products:
· <a href="{{visit.link(run_path + '/recipe/report')}}">Report</a> · <a href="{{visit.link(run_path + '/recipe/manifest')}}">Checksums</a>
% end
· <a href="{{visit.link('/difference', one='%d.%d' % (row.id, capsule.number))}}">Compare with another run</a></p>
% end
<details>
  <summary>History</summary>
  <div class="scroll" tabindex="0" role="region" aria-label="History">
  <table class="dense">
  <thead><tr><th>Time</th><th>Phase</th><th>By</th><th>Why</th></tr></thead>
  <tbody>
  % for event in record['phases']:
  <tr><td class="time">{{when(event['seconds'])}}</td><td>{{event['phase'] if event['is_change'] else ''}}</td><td>{{event['who']}}</td><td>{{event['why']}}</td></tr>
  % end
  </tbody></table></div>
</details>
