<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › draft <strong>{{recipe.name}}</strong></p>
<nav aria-label="Steps of the new process">
<ol class="steps">
  % for each in steps:
  <li><a href="{{visit.link('/draft/%d/%s' % (kept.id, each))}}"{{!' aria-current="step"' if each == this else ''}}>{{each}}</a></li>
  % end
</ol>
</nav>
