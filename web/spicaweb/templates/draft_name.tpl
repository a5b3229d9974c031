% rebase('layout.tpl')
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
<h1>Name</h1>
<form class="narrow" method="post" action="{{visit.link('/draft/%d/name' % kept.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <p><label for="name">Name <span class="hint">Letters, digits and . _ + -.</span></label>
  <input id="name" name="name" value="{{recipe.name}}" maxlength="100" required autocomplete="off" spellcheck="false"></p>
  <p><label for="mail">The report goes to <span class="hint">Empty: no report by mail.</span></label>
  <input id="mail" name="mail" type="email" value="{{recipe.mail}}" autocomplete="email"></p>
  <p><button>Keep, and go on to the data</button></p>
</form>
