% rebase('layout.tpl')
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
<h1>Tasks</h1>
<form method="post" action="{{visit.link('/draft/%d/tasks' % kept.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <fieldset class="plain-set">
  <legend>Rules say which tasks run, and on which exposures together</legend>
  <div class="cards">
  % for version, each in rules:
  <div class="card choose">
    <label class="choice"><input type="radio" name="rules" value="{{version.name}}"{{!' checked' if version.name == recipe.rules else ''}} required>
    <span><strong>{{each.title}}</strong> <span class="soft small">{{version.name}}, {{version.level}}</span><br>{{each.summary}}</span></label>
    <ol class="tasks">
      % for task in each.tasks:
      % known = applications.get(task.application)
      <li><strong>{{known.title if known else task.application}}</strong>
      <span class="soft small">{{'on each exposure' if task.is_each else 'on all that share ' + ', '.join(task.gather) if task.gather != ('all',) else 'on all together'}}{{', where ' + task.select if task.select else ''}}{{', widened by neighbours within %g°' % task.widen.within_deg if task.widen else ''}}</span></li>
      % end
    </ol>
  </div>
  % end
  </div>
  </fieldset>
  <p><button>Keep, and go on to the configurations</button></p>
</form>
