% rebase('layout.tpl')
<h1>Choose a new password</h1>
<p>For the account <strong>{{account.name}}</strong>. All its sessions are ended.</p>
<form class="narrow" method="post" action="{{visit.link(visit.path)}}">
  % include('csrf.tpl')
  <input type="hidden" name="name" value="{{account.name}}" autocomplete="username">
  <p><label for="password">New password <span class="hint">At least 12 characters. Several words that do not belong together are good, and easy to remember.</span></label>
  <input id="password" name="password" type="password" autocomplete="new-password" minlength="12" required></p>
  <p><label for="again">The same once more</label>
  <input id="again" name="again" type="password" autocomplete="new-password" required></p>
  <p><button>Set the password</button></p>
</form>
