% rebase('layout.tpl')
<h1>{{title}}</h1>
% for line in words.splitlines():
<p>{{line}}</p>
% end
<p><a href="{{visit.link('/')}}">To the front page</a></p>
