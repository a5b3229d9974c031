% for key in keys:
<figure><a href="{{visit.link('%s/picture/%s' % (here, key))}}"><img src="{{visit.link('%s/picture/%s' % (here, key))}}" alt="{{shown.title(key)}}"{{!'' if key == 'preview' else ' loading="lazy"'}}></a>
<figcaption>{{shown.title(key)}}</figcaption></figure>
% end
