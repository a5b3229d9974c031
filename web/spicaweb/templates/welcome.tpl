% rebase('layout.tpl')
<h1>Spica</h1>
<p class="lead">Reduce archived FITS images on the observatory's own machines: choose exposures, choose what is to be
done with them, and fetch the stacks and catalogues when a mail says that they are ready.</p>
<p><a class="button" href="{{visit.link('/login')}}">Log in</a>
<a class="button quiet" href="{{visit.link('/request')}}">Ask for an account</a></p>
