% rebase('layout.tpl')
% from spicad.report import size
% here = '/exposure/%d' % row.id
<p class="trail"><a href="{{visit.link('/grades', **fields)}}">Grades</a> ·
{{' '.join(filter(None, [row.instrument_name, row.runid, row.filter])) or 'exposure %d' % row.id}}
% if is_queued:
· <strong>{{'{:,}'.format(waiting)}}</strong> {{'of these wait' if among.state == 'ungraded' else 'in this round'}}
% end
</p>
<div class="head">
  <h1>{{row.name}} <span class="grade grade-{{row.grade.lower() or 'none'}}{{' proposed' if row.grade and not row.graded_by else ''}}">{{row.grade or 'no grade'}}</span></h1>
  <p class="pages"><a rel="prev" href="{{visit.link('/grades/next', after=row.id, back=1, **fields)}}">previous</a>
  <a rel="next" href="{{visit.link('/grades/next', after=row.id, **fields)}}">next</a></p>
</div>
<div class="look">
<section class="seen first" aria-label="The exposure">
% if judgement is None:
<p class="note">Nothing has judged this exposure yet, so there are no pictures of it.</p>
% elif judgement.problem:
<p class="note">{{judgement.problem}}</p>
% end
% if shown:
% include('quality_pictures.tpl', visit=visit, shown=shown, here=here, keys=[key for key in shown.pictures if key == 'preview'])
% end
% if shown and not shown.pictures:
<p class="soft">The pictures are gone with the products of process {{judgement.source.process}}; the figures have stayed.</p>
% end
</section>
<section class="judged" aria-label="Figures and grades">
% if may_grade:
<p class="buttons" role="group" aria-label="Grade">
% for each in grades:
<button form="grading" name="grade" value="{{each}}" class="grade-{{each.lower()}}{{' given' if own and own.grade == each else ''}}"{{!' aria-pressed="true"' if own and own.grade == each else ''}}>{{each}}</button>
% end
</p>
% end
% if shown:
% include('quality_reasons.tpl', report=shown.report)
% include('quality_figures.tpl', shown=shown)
% end
% if may_grade:
<form class="grading" id="grading" method="post" action="{{visit.link(here + '/grade', queue='1' if is_queued else '', **fields)}}">
  % include('csrf.tpl')
  <fieldset class="comments"><legend>Comments</legend>
  % for number, comment in enumerate(comments, 1):
  <label class="choice{{' likely' if comment in proposed else ''}}"><input type="checkbox" name="comment" value="{{comment}}"{{!' data-number="%d"' % number if number < 10 else ''}}{{!' checked' if own and comment in own.comments else ''}}> <span>{{comment}}{{!' <span class="soft">proposed</span>' if comment in proposed else ''}}</span>{{!' <kbd class="keys">%d</kbd>' % number if number < 10 else ''}}</label>
  % end
  </fieldset>
  <p><label for="words">In your own words</label><input id="words" name="words" type="text" maxlength="2000" value="{{own.words if own else ''}}"></p>
  % if own and own.grade:
  <p><button class="quiet" name="grade" value="">Take my {{own.grade}} back</button></p>
  % end
  <p class="keys small soft">Keys: <kbd>A</kbd> to <kbd>D</kbd> grade, <kbd>N</kbd> next, <kbd>P</kbd> previous, <kbd>1</kbd> to <kbd>9</kbd> comments, <kbd>W</kbd> words.</p>
</form>
% end
% if history:
<h2>What was said</h2>
% if is_disputed:
<p class="note">Graders differ. The latest grade counts.</p>
% end
<ol class="said">
% for each in history:
<li>{{!'<span class="grade grade-%s">%s</span>' % (each.grade.lower(), each.grade) if each.grade else '<span class="grade grade-none">back</span>'}}
<strong>{{each.who}}</strong> <span class="soft small">{{when(each.time)}}</span>{{!'<br>' if each.said else ''}}{{each.said}}</li>
% end
</ol>
% end
</section>
% if shown and any(key != 'preview' for key in shown.pictures):
<section class="seen" aria-label="Plots">
% include('quality_pictures.tpl', visit=visit, shown=shown, here=here, keys=[key for key in shown.pictures if key != 'preview'])
</section>
% end
</div>
% if shown:
<div class="head"><h2>All figures</h2>
<p><a href="{{visit.link(here + '/figures.json')}}">JSON</a> · <a href="{{visit.link(here + '/figures.csv')}}">CSV</a>
% for key, words in shown.file_words.items():
% if key in shown.files and key not in ('json', 'csv'):
· <a href="{{visit.link('%s/file/%s' % (here, key))}}">{{words}}</a>
% end
% end
% if 'json' in shown.files:
· <a href="{{visit.link(here + '/file/json')}}">the whole report</a>
% end
</p></div>
% include('quality_details.tpl', shown=shown)
% end
<h2>The exposure</h2>
<dl class="facts">
  % for words, value in (('Object', row.target_name), ('Instrument', row.instrument_name), ('Filter', row.filter), ('Run', row.runid), ('Begun', when((row.t_min - 40587) * 86400) if row.t_min else ''), ('Exposed', '%g s' % row.t_exptime if row.t_exptime is not None else ''), ('Airmass', '%.2f' % row.airmass if row.airmass is not None else ''), ('Place', '%.5f %+.5f' % (row.s_ra, row.s_dec) if row.s_ra is not None else ''), ('Kind', row.kind), ('CCDs', row.ccd_count), ('Size', size(row.bytes)), ('Registered', when(row.registered))):
  % if value not in ('', None):
  <dt>{{words}}</dt><dd>{{value}}</dd>
  % end
  % end
  <dt>Digest</dt><dd><code>{{row.sha256}}</code></dd>
  % if judgement is not None:
  <dt>Judged by</dt><dd>{{judgement.source.application}}, process {{judgement.source.process}}, {{when(judgement.source.ended)}}</dd>
  % end
</dl>
<script src="{{static(visit, 'grading.js')}}" defer></script>
