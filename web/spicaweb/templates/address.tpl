% rebase('layout.tpl')
<h1>Confirm your new address</h1>
<p>Mails for the account <strong>{{account.name}}</strong> will go to <strong>{{mail}}</strong>.</p>
<form method="post" action="{{visit.link(visit.path)}}">
  % include('csrf.tpl')
  <p><button>Use this address</button></p>
</form>
