% rebase('layout.tpl')
<h1>Choose a name and a password</h1>
<dl class="facts">
  <dt>Name</dt><dd>{{account.full_name}}</dd>
  <dt>Institute</dt><dd>{{account.institute}}</dd>
  <dt>Mail address</dt><dd>{{account.mail}}</dd>
  <dt>Group</dt><dd>{{account.group}}</dd>
</dl>
<form method="post" action="{{visit.link(visit.path)}}">
  % include('csrf.tpl')
  <p><label for="name">User name <span class="hint">Small letters, digits and . _ -; it stands on all your processes.</span></label>
  <input id="name" name="name" value="{{name}}" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="32" required></p>
  <p><label for="password">Password <span class="hint">At least 12 characters. Several words that do not belong together are good, and easy to remember.</span></label>
  <input id="password" name="password" type="password" autocomplete="new-password" minlength="12" required></p>
  <p><label for="again">The same once more</label>
  <input id="again" name="again" type="password" autocomplete="new-password" required></p>
  <p><button>Send the request</button></p>
</form>
