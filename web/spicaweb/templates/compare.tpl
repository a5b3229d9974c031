% rebase('layout.tpl')
<h1>Compare two runs</h1>
<form class="narrow" method="get" action="{{visit.link('/difference')}}">
  <p><label for="one">One</label><input id="one" name="one" value="{{one}}" required></p>
  <p><label for="other">The other <span class="hint">Number of the process, then a point and the number of the run: 12.1. Without a run, the last one.</span></label>
  <input id="other" name="other" required></p>
  <p><button>Compare</button></p>
</form>
