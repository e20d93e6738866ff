# Colour only when asked for, or on a terminal without NO_COLOR.
wsurg bogus --color always 2>&1 | od -c | head -n 2
NO_COLOR=1 wsurg bogus --color auto
