% rebase('layout.tpl')
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › steps of run {{capsule.number}}</p>
<h1>{{total}} steps</h1>
<p class="choices">
  <a href="{{visit.link(run_path + '/steps')}}"{{!' aria-current="true"' if not state else ''}}>all</a>
  % for each, count in states.items():
  <a href="{{visit.link(run_path + '/steps', state=each)}}"{{!' aria-current="true"' if each == state else ''}}>{{each}} ({{count}})</a>
  % end
</p>
% include('step_rows.tpl', steps=steps, run_path=run_path)
% if pages > 1:
<p class="pages">Page {{this}} of {{pages}}
  % if this > 1:
  <a rel="prev" href="{{visit.link(run_path + '/steps', state=state, page=this - 1)}}">back</a>
  % end
  % if this < pages:
  <a rel="next" href="{{visit.link(run_path + '/steps', state=state, page=this + 1)}}">on</a>
  % end
</p>
% end
