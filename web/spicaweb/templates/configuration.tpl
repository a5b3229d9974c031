% rebase('layout.tpl')
<p class="trail"><a href="{{visit.link('/configurations', application=version.application)}}">Configurations</a>{{' › ' + version.application if version.application else ''}}</p>
<div class="head">
<h1>{{version.name}}</h1>
<div class="actions">
% if may_edit:
<a class="button" href="{{visit.link('/configuration/%d/edit' % version.id)}}">Edit</a>
<form method="post" action="{{visit.link('/configuration/%d/retire' % version.id)}}"><input type="hidden" name="csrf" value="{{visit.csrf}}"><input type="hidden" name="retired" value="{{'no' if version.is_retired else 'yes'}}"><button class="quiet">{{'Offer again' if version.is_retired else 'Retire'}}</button></form>
% end
<a class="button quiet" href="{{visit.link('/configurations/new', kind=version.kind, application=version.application, copy=version.id or version.name, level=version.level)}}">Copy</a>
</div>
</div>
<p>{{words[:1].upper() + words[1:]}}{{' of ' + version.application if version.application else ''}}, level {{version.level}}{{' ' + version.group if version.group else ''}}{{', version %d by %s, %s' % (version.number, version.who, when(version.made)) if version.id else ', as installed'}}{{', retired' if version.is_retired else ''}}.
% if version.words:
<br><span class="soft">{{version.words}}</span>
% end
</p>
% if may_edit and version.kind != 'file':
<details{{!' open' if problems else ''}}><summary>Rename</summary>
<form class="row" method="post" action="{{visit.link('/configuration/%d/rename' % version.id)}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  <p><label for="name">New name <span class="hint">All versions keep together under it.</span></label>
  <input id="name" name="name" value="{{version.name}}" maxlength="100" required spellcheck="false" autocapitalize="none"></p>
  <p><button class="quiet">Rename</button></p>
</form>
</details>
% end
<pre class="log" tabindex="0">{{version.text}}</pre>
% if version.id:
<h2>Versions</h2>
<ul class="plain">
  % for each in versions:
  <li>\\
% if each.id == version.id:
<strong>{{each.number}}</strong>\\
% else:
<a href="{{visit.link('/configuration/%d' % each.id)}}">{{each.number}}</a>\\
% end
 <span class="soft">{{when(each.made)}} by {{each.who}}{{': ' + each.words if each.words else ''}}</span>
  % if each.id != version.id:
  <a class="small" href="{{visit.link('/configuration/%d' % version.id, against=each.number)}}#changes">compare</a>
  % end
  </li>
  % end
</ul>
% if version.kind == 'configuration':
<p><a href="{{visit.link('/configuration/%d' % version.id, against='default')}}#changes">Compare with the default</a></p>
% end
% end
% if other:
<h2 id="changes">Changed since {{'the default' if against == 'default' else 'version %d' % other.number}}</h2>
% if changes:
<pre class="changes" tabindex="0">\\
% for line in changes:
<span class="{{'plus' if line.startswith('+') else 'minus' if line.startswith('-') else 'soft'}}">{{line}}</span>
% end
</pre>
% else:
<p class="soft">Nothing.</p>
% end
% end
