% rebase('layout.tpl')
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
<h1>Configurations</h1>
% if not applications:
<p>Choose the <a href="{{visit.link('/draft/%d/tasks' % kept.id)}}">tasks</a> first: they say which applications run.</p>
% else:
<form method="post" action="{{visit.link('/draft/%d/configurations' % kept.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <div class="settings">
  % for application in applications:
  <fieldset>
    <legend>{{application.title}}</legend>
    % chosen = recipe.configuration.get(application.name, '')
    <p><label for="configuration.{{application.name}}">Configuration</label>
    <select id="configuration.{{application.name}}" name="configuration.{{application.name}}">
      <option value="">as the rules say: {{defaults.get(application.name) or 'the tool’s own'}}</option>
      % known = {each.choice for each in choices[application.name]}
      % if chosen and chosen not in known:
      <option value="{{chosen}}" selected>{{chosen}}, as before</option>
      % end
      % for each in choices[application.name]:
      <option value="{{each.choice}}"{{!' selected' if each.choice == chosen else ''}}>{{each.level}}: {{each.shown}}</option>
      % end
    </select>
    <a class="small" href="{{visit.link('/configurations', application=application.name)}}">look at them, make one</a></p>
    <p><label for="keywords.{{application.name}}">Single keywords on top <span class="hint">KEYWORD value, one a line.</span></label>
    <textarea id="keywords.{{application.name}}" name="keywords.{{application.name}}" rows="3" class="code" spellcheck="false">{{recipe.keywords.get(application.name, '')}}</textarea></p>
  </fieldset>
  % end
  </div>
  <p><button>Keep, and check all</button></p>
</form>
% end
