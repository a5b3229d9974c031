% rebase('layout.tpl')
<p class="trail"><a href="{{visit.link('/configurations', application=version.application)}}">Configurations</a>{{' › ' + version.application if version.application else ''}}</p>
<h1>{{version.name if version.id else 'New ' + words}}{{' of ' + applications[version.application].title if version.application in applications else ''}}</h1>
% if by_line:
<div class="problems" role="alert">
<p>It cannot be kept yet:</p>
<ul>
% for line in sorted(by_line):
% for problem in by_line[line]:
<li>{{'line %d: ' % line if line else ''}}{{problem.what}} {{problem.mend}}</li>
% end
% end
</ul>
</div>
% if any(by_line):
<div class="scroll tall" tabindex="0" role="region" aria-label="The text with its lines">
<table class="lines"><tbody>
% near = {number + shift for number in by_line for shift in (-2, -1, 0, 1, 2)}
% for number, line in enumerate(lines, 1):
% if number in near:
<tr class="{{'wrong' if number in by_line else ''}}"><td class="number soft">{{number}}</td><td><code>{{line}}</code></td></tr>
% end
% end
</tbody></table></div>
% end
% elif is_checked:
<p class="done" role="status">It is fine for the installed tool. It is not saved yet.</p>
% end
<form method="post" action="{{visit.link('/configurations')}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  % if version.id:
  <input type="hidden" name="of" value="{{version.id}}">
  % else:
  <input type="hidden" name="kind" value="{{version.kind}}">
  <input type="hidden" name="application" value="{{version.application}}">
  <div class="row">
  <p><label for="name">Name{{' like ' + ', '.join(patterns) if version.kind == 'file' else ''}}</label><input id="name" name="name" value="{{version.name}}" maxlength="100" required spellcheck="false" autocomplete="off"></p>
  <p><label for="level">Level</label><select id="level" name="level">
    % here = 'user' if version.owner else 'group:' + version.group if version.group else 'system'
    % for level, said in levels:
    <option value="{{level}}"{{!' selected' if level == here else ''}}>{{said}}</option>
    % end
  </select></p>
  </div>
  % end
  % if copied:
  <p class="soft">Begins as {{copied.shown}}, {{copied.level}}.</p>
  % end
  <p><label for="text">{{'KEYWORD value # comment, one a line' if version.kind == 'configuration' else 'Text'}}</label>
  <textarea id="text" name="text" class="code wide" rows="{{min(max(len(lines) + 2, 12), 40)}}" spellcheck="false">{{version.text}}</textarea></p>
  <p><label for="words">What has changed <span class="hint">A few words for those who come after.</span></label><input id="words" name="words" value="{{version.words if not version.id else ''}}" maxlength="200"></p>
  <p class="row"><button>{{'Save as version %d' % (version.number + 1) if version.id else 'Save'}}</button>
  <button class="quiet" name="check" value="yes">Check only</button></p>
</form>
% if keywords:
<details>
<summary>Keywords that may be set ({{len(keywords)}}), as the installed tool tells them</summary>
<div class="scroll tall" tabindex="0" role="region" aria-label="Keywords">
<table class="dense"><thead><tr><th>Keyword</th><th>Default</th><th>Values</th><th>What</th></tr></thead><tbody>
% for each in keywords:
<tr><td><code>{{each['name']}}</code></td><td>{{each['default']}}</td><td>{{each['allowed']}}</td><td>{{each['comment']}}</td></tr>
% end
</tbody></table></div>
</details>
% end
