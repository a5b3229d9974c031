% rebase('layout.tpl')
<h1>Help</h1>
% for name, words, text in guides:
<h2><a href="{{visit.link('/help/' + name)}}">{{words}}</a></h2>
<ul>
  % for anchor, section in sections_of(text):
  <li><a href="{{visit.link('/help/' + name)}}#{{anchor}}">{{section}}</a></li>
  % end
</ul>
% end
<p class="soft">On the machines the manual tells everything: <code>man spica</code>, and what it refers to.</p>
