% rebase('layout.tpl')
<h1>A new password</h1>
<p>We send a link to your address. It is good for one hour, and for one use.</p>
<form class="narrow" method="post" action="{{visit.link('/forgot')}}">
  % include('csrf.tpl')
  <p><label for="mail">Mail address</label>
  <input id="mail" name="mail" type="email" value="{{name}}" autocomplete="email" required></p>
  <p><button>Send the link</button></p>
</form>
