% rebase('layout.tpl')
<h1>{{title}}</h1>
<p class="lead">{{words}}</p>
