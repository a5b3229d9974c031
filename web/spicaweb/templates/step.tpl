% rebase('layout.tpl')
% from spicad.report import number
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › step {{step['number']}}</p>
<h1>{{step['application']}} {{step['label']}}</h1>
<p><span class="phase {{step['state']}}">{{step['state']}}</span>
<span class="soft">{{'%.1f s' % step['seconds'] if step['seconds'] is not None else ''}}{{' on ' + step['node'] if step['node'] else ''}}{{', attempt %d' % step['attempt'] if step['attempt'] > 1 else ''}}</span></p>
% if step['why']:
<p class="{{'problems' if step['state'] == 'failed' else 'note'}}">{{step['why']}}</p>
% end
% if outcome.get('last_words'):
<h2>Its last words</h2>
<pre tabindex="0">{{'\n'.join(outcome['last_words'])}}</pre>
% end
% if step['metrics']:
<h2>Figures</h2>
<dl class="facts">
  % for name, value in step['metrics'].items():
  <dt>{{name.replace('_', ' ')}}</dt><dd>{{number(value)}}</dd>
  % end
</dl>
% end
<h2>What it said</h2>
% if lines:
<pre class="log" tabindex="0">{{'\n'.join(lines)}}</pre>
<p><a href="{{visit.link('%s/step/%d/log' % (run_path, step['number']))}}">Fetch the whole log</a></p>
% else:
<p class="soft">Nothing{{' yet' if step['state'] in ('waiting', 'running') else ''}}.</p>
% end
% if argv:
<h2>Its command line</h2>
<pre class="wrapped">{{' '.join(argv)}}</pre>
% end
% if stems:
<details><summary>{{len(stems)}} exposures, as the tool knows them</summary>
<p class="small">
% for stem, label in stems:
<code>{{stem}}</code> {{label}}<br>
% end
</p></details>
% end
