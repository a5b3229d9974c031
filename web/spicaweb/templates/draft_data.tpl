% rebase('layout.tpl')
% include('draft_steps.tpl', visit=visit, recipe=recipe, steps=steps, kept=kept, this=this)
<div class="head"><h1>Data</h1>
<p><a class="button quiet" href="{{visit.link('/draft/%d/archive' % kept.id)}}">Search the archive</a></p></div>
<form method="post" enctype="multipart/form-data" action="{{visit.link('/draft/%d/data' % kept.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <div class="pair">
  % for name, words, hint in (('exposures', 'Exposures', 'What is reduced and stacked.'), ('calibration', 'Calibration set', 'Further exposures that widen the astrometric solution, where the rules say so; they are not stacked.')):
  <fieldset>
    <legend>{{words}}</legend>
    <p><label for="{{name}}">Names or patterns, one a line <span class="hint">{{hint}} * stands for any characters; names of the archive's own, or {{'paths below ' + archive[0] if len(archive) == 1 else 'whole paths'}}.</span></label>
    <textarea id="{{name}}" name="{{name}}" rows="8" spellcheck="false" class="code">{{'\n'.join(getattr(recipe, name))}}</textarea></p>
    <p><label for="{{name}}_list">Or a list of names <span class="hint">A text file of at most 64 kB, one name a line; it is added to those above.</span></label>
    <input id="{{name}}_list" name="{{name}}_list" type="file" accept=".txt,.lst,.list,.csv,text/plain"></p>
  </fieldset>
  % end
  </div>
  <details{{!' open' if recipe.weight != 'auto' or recipe.reference else ''}}>
    <summary>Weight maps and reference catalogue</summary>
    <p><label for="weight">Weight map <span class="hint">auto: the one beside each exposure; none; a path; or a pattern with {folder} and {stem}.</span></label>
    <input id="weight" name="weight" value="{{recipe.weight}}" spellcheck="false"></p>
    <p><label for="reference">Reference catalogue <span class="hint">FITS LDAC. Empty: the observatory's own.</span></label>
    <input id="reference" name="reference" value="{{recipe.reference}}" spellcheck="false"></p>
  </details>
  <p><button>Keep, and go on to the tasks</button></p>
</form>
