<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title if title == 'Spica' else title + ' - Spica'}}</title>
<link rel="stylesheet" href="{{static(visit, 'spica.css')}}">
<link rel="icon" type="image/svg+xml" href="{{static(visit, 'star.svg')}}">
% if refresh:
<noscript><meta http-equiv="refresh" content="{{refresh}}"></noscript>
% end
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
  <a class="name" href="{{visit.link('/')}}">Spica</a>
  % if visit.actor:
  <nav aria-label="Site">
    <ul>
      % for path, words, is_here in bar:
      % if is_here:
      <li><a href="{{path}}" aria-current="page">{{words}}</a></li>
      % else:
      <li><a href="{{path}}">{{words}}</a></li>
      % end
      % end
    </ul>
  </nav>
  <div class="who">
    <a href="{{visit.link('/account')}}">{{visit.account.name}}</a>
    <form method="post" action="{{visit.link('/logout')}}">
      % include('csrf.tpl')
      <button class="quiet">Log out</button>
    </form>
  </div>
  % else:
  <div class="who">
    <a href="{{visit.link('/help')}}">Help</a>
    <a href="{{visit.link('/login')}}">Log in</a>
    <a href="{{visit.link('/request')}}">Ask for an account</a>
  </div>
  % end
</header>
<main id="main" tabindex="-1">
% if done:
<p class="done" role="status">{{done}}</p>
% end
% if problems:
<div class="problems" role="alert">
  <ul>
    % for problem in problems:
    <li>{{problem}}</li>
    % end
  </ul>
</div>
% end
{{!base}}
</main>
</body>
</html>
