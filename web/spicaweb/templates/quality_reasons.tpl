<p class="proposal"><span class="grade grade-{{report.grade.lower()}} proposed">{{report.grade}}</span> proposed{{'' if report.reasons else ': nothing speaks against it.'}}</p>
% if report.reasons:
<ul class="reasons">
% for reason in report.reasons[:12]:
<li><span class="grade grade-{{reason.grade.lower()}} proposed">{{reason.grade}}</span> {{reason.words}}{{' (CCD %s)' % reason.ccd if reason.ccd else ''}}</li>
% end
% if len(report.reasons) > 12:
<li class="soft">and {{len(report.reasons) - 12}} more</li>
% end
</ul>
% end
