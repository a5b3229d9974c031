% rebase('layout.tpl')
% from spicad.report import size
<p class="trail"><a href="{{visit.link('/processes')}}">Processes</a> › <a href="{{visit.link(run_path)}}">{{row.id}} {{row.name}}</a> › product {{product.number}}</p>
<h1>{{product.name}}</h1>
<p>{{product.words}}, {{size(product.bytes)}}. <a href="{{visit.link('%s/product/%d/file' % (run_path, product.number))}}">Fetch it</a></p>
<p class="soft small">Digest of its content: <code>{{product.digest}}</code></p>
% if trouble:
<p class="note">It cannot be shown: {{trouble}}</p>
% elif product.kind == 'image':
<p class="soft small">Sampled, first row at the bottom, arcsinh of the values between two percentiles: a look, not a measurement.</p>
<p><img class="picture" src="{{visit.link('%s/product/%d/large.png' % (run_path, product.number))}}" alt="Preview of {{product.name}}"></p>
% elif product.kind == 'packed':
<p class="note">There is no preview: to unpack it takes longer than a page may. Fetch it and look at it with any viewer that reads .fz files.
% if quality:
Its <a href="{{visit.link('%s/quality/%d' % (run_path, quality.number))}}">quality report</a> has pictures.
% end
</p>
% elif product.kind == 'plot':
<p><img class="picture" src="{{visit.link('%s/product/%d/plot' % (run_path, product.number))}}" alt="{{product.name}}"></p>
% elif product.kind == 'text':
<pre class="log" tabindex="0">{{text}}</pre>
% end
