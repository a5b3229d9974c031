% rebase('layout.tpl')
<h1>New process</h1>
<form class="narrow" method="post" action="{{visit.link('/new')}}">
  <input type="hidden" name="csrf" value="{{visit.csrf}}">
  % if copied:
  <input type="hidden" name="copy" value="{{copied}}">
  <p>A copy of process {{copied.partition('.')[0]}}: all is as it was there, and you can change it before it runs. What stays the same is not computed again.</p>
  % end
  <p><label for="name">Name <span class="hint">Letters, digits and . _ + -; the folder of the results is called so.</span></label>
  <input id="name" name="name" value="{{name}}" maxlength="100" required autocomplete="off" spellcheck="false"></p>
  <p><button>{{'Copy it' if copied else 'Choose the data'}}</button></p>
</form>
% if not copied:
<h2>Or copy an earlier one</h2>
<form class="narrow row" method="get" action="{{visit.link('/new')}}">
  <p><label for="copy">Number of the process</label><input id="copy" name="copy" inputmode="numeric" required></p>
  <p><button class="quiet">Copy</button></p>
</form>
% end
% if drafts:
<h2>Drafts</h2>
<ul class="plain">
  % for draft in drafts:
  <li><a href="{{visit.link('/draft/%d/check' % draft.id)}}">{{draft.name}}</a> <span class="soft small">changed {{when(draft.changed)}}</span>
  <form class="inline" method="post" action="{{visit.link('/draft/%d/throw-away' % draft.id)}}"><input type="hidden" name="csrf" value="{{visit.csrf}}"><button class="quiet small">Throw away</button></form></li>
  % end
</ul>
% end
