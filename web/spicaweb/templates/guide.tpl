% rebase('layout.tpl')
<p class="small"><a href="{{visit.link('/help')}}">Help</a></p>
<h1>{{title}}</h1>
<nav aria-label="Sections"><ul>
  % for anchor, section in sections:
  <li><a href="#{{anchor}}">{{section}}</a></li>
  % end
</ul></nav>
<div class="guide">
{{!body}}
</div>
