% rebase('layout.tpl')
<h1>Log in</h1>
<form class="narrow" method="post" action="{{visit.link('/login')}}">
  % include('csrf.tpl')
  <input type="hidden" name="next" value="{{next}}">
  <p><label for="name">User name or mail address</label>
  <input id="name" name="name" value="{{name}}" autocomplete="username" autocapitalize="none" spellcheck="false" required></p>
  <p><label for="password">Password</label>
  <input id="password" name="password" type="password" autocomplete="current-password" required></p>
  <p><button>Log in</button></p>
</form>
<p><a href="{{visit.link('/forgot')}}">Forgotten the password?</a>
No account yet? <a href="{{visit.link('/request')}}">Ask for one.</a></p>
