# SPDX-License-Identifier: MIT
"""Horizontal bar charts as plain SVG, without any library."""

from xml.sax.saxutils import escape

COLOURS = ('#1b6ca8', '#d1495b', '#8d96a3', '#edae49')
BAR, GAP, GROUP_GAP, LEFT, WIDTH, TOP = 14, 3, 16, 210, 460, 64


def nice_step(limit):
    """A grid step of 1, 2 or 5 times a power of ten, 4 to 10 of them."""
    step = 10.0 ** 9
    for exponent in range(-6, 9):
        for factor in (1, 2, 5):
            step = factor * 10.0 ** exponent
            if limit / step <= 10:
                return step
    return step


def text(x, y, words, anchor='start', size=11, weight='normal'):
    return ('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" '
            'font-weight="%s">%s</text>'
            % (x, y, anchor, size, weight, escape(words)))


def bars(path, title, unit, series, groups):
    """Write a chart to @path.

    @series: names, one colour each. @groups: (label, values) where values has
    for each series None or (middle, low, high); low to high is drawn as a
    line over the bar.
    """
    limit = max(v[2] for _, values in groups for v in values if v) * 1.08
    shown = [(label, [(i, v) for i, v in enumerate(values) if v])
             for label, values in groups]
    height = TOP + sum(GROUP_GAP + (BAR + GAP) * len(v) for _, v in shown) + 40
    bottom = height - 34
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
           'font-family="sans-serif">' % (LEFT + WIDTH + 80, height),
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           text(12, 22, title, size=14, weight='bold')]
    for i, name in enumerate(series):
        x = LEFT + i * 130
        out.append('<rect x="%d" y="34" width="11" height="11" fill="%s"/>'
                   % (x, COLOURS[i]))
        out.append(text(x + 16, 44, name))
    step = nice_step(limit)
    tick = 0
    while tick * step <= limit:
        x = LEFT + WIDTH * tick * step / limit
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" '
                   'stroke="#dddddd"/>' % (x, TOP - 6, x, bottom))
        out.append(text(x, bottom + 14, '%g' % (tick * step), 'middle'))
        tick += 1
    out.append(text(LEFT + WIDTH, bottom + 28, unit, 'end'))
    y = TOP
    for label, values in shown:
        middle = y + (BAR + GAP) * len(values) / 2
        out.append(text(LEFT - 8, middle + 3, label, 'end'))
        for i, (value, low, high) in values:
            scale = WIDTH / limit
            out.append('<rect x="%d" y="%.1f" width="%.1f" height="%d" '
                       'fill="%s"/>' % (LEFT, y, value * scale, BAR,
                                        COLOURS[i]))
            out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" '
                       'stroke="#222222" stroke-width="1.5"/>'
                       % (LEFT + low * scale, y + BAR / 2,
                          LEFT + high * scale, y + BAR / 2))
            out.append(text(LEFT + high * scale + 5, y + BAR - 3,
                            '%.3g' % value, size=10))
            y += BAR + GAP
        y += GROUP_GAP
    out.append('</svg>\n')
    with open(path, 'w', encoding='utf-8') as svg:
        svg.write('\n'.join(out))
