"""The picture of a scene (scenes.py), drawn by Cairo.

  python painting.py [sheet.png [seed]]      32 scenes side by side, their captions printed
"""
import math
import random

import cairo
import numpy as np

from scenes import COLORS, POS_X, caption, random_scene

LIGHT = {"day": (1, 1, 1), "sunset": (0.93, 0.72, 0.66), "night": (0.42, 0.46, 0.66), "storm": (0.60, 0.63, 0.68)}
SKY = {"day": ((0.33, 0.62, 0.93), (0.80, 0.92, 0.99)), "sunset": ((0.36, 0.22, 0.52), (1.0, 0.62, 0.32)),
       "night": ((0.03, 0.05, 0.17), (0.14, 0.19, 0.40)), "storm": ((0.22, 0.24, 0.29), (0.52, 0.55, 0.59))}


class Painter:
    """Cairo canvas in unit coordinates (0..1, y down) with the light of the scene."""

    def __init__(self, size, light):
        self.size, self.light = size, light
        self.surface = cairo.ImageSurface(cairo.FORMAT_RGB24, size, size)
        self.c = cairo.Context(self.surface)
        self.c.scale(size, size)

    def lit(self, rgb, glow=0.0):
        return tuple(v * (l + (1 - l) * glow) for v, l in zip(rgb, self.light))

    def fill(self, rgb, alpha=1.0, glow=0.0):
        self.c.set_source_rgba(*self.lit(rgb, glow), alpha)
        self.c.fill()

    def gradient(self, y0, y1, top, bottom, glow=1.0):
        g = cairo.LinearGradient(0, y0, 0, y1)
        g.add_color_stop_rgb(0, *self.lit(top, glow))
        g.add_color_stop_rgb(1, *self.lit(bottom, glow))
        self.c.set_source(g)

    def poly(self, pts, rgb, **kw):
        self.c.move_to(*pts[0])
        for p in pts[1:]:
            self.c.line_to(*p)
        self.c.close_path()
        self.fill(rgb, **kw)

    def rect(self, x, y, w, h, rgb, **kw):
        self.c.rectangle(x, y, w, h)
        self.fill(rgb, **kw)

    def disc(self, x, y, r, rgb, sx=1.0, sy=1.0, **kw):
        self.c.save()
        self.c.translate(x, y)
        self.c.scale(sx, sy)
        self.c.arc(0, 0, r, 0, 2 * math.pi)
        self.c.restore()
        self.fill(rgb, **kw)

    def ridge(self, base, amp, freq, phase, top, bottom, glow=0.0):
        """A wavy band of land from its ridge line down to the lower edge."""
        self.c.move_to(-0.01, 1.01)
        for i in range(65):
            x = -0.01 + 1.02 * i / 64
            self.c.line_to(x, base - amp * math.sin(freq * x * 2 * math.pi + phase))
        self.c.line_to(1.01, 1.01)
        self.c.close_path()
        self.gradient(base - amp, 1.0, top, bottom, glow)
        self.c.fill()

    def glow(self, x, y, r, rgb, alpha):
        g = cairo.RadialGradient(x, y, 0, x, y, r)
        g.add_color_stop_rgba(0, *rgb, alpha)
        g.add_color_stop_rgba(1, *rgb, 0)
        self.c.set_source(g)
        self.c.arc(x, y, r, 0, 2 * math.pi)
        self.c.fill()

    def array(self):
        self.surface.flush()
        a = np.ndarray((self.size, self.size, 4), np.uint8, self.surface.get_data())
        return a[:, :, 2::-1].copy()


def cloud(p, x, y, s, rgb, alpha=0.95):
    for dx, dy, r in ((-0.10, 0.02, 0.045), (-0.04, -0.01, 0.065), (0.04, -0.015, 0.06), (0.10, 0.02, 0.042)):
        p.disc(x + dx * s, y + dy * s, r * s, rgb, alpha=alpha, glow=1)
    p.rect(x - 0.10 * s, y + 0.005 * s, 0.20 * s, 0.055 * s, rgb, alpha=alpha, glow=1)


def paint_sky(p, s, part):
    t = s["time"]
    p.c.rectangle(0, 0, 1, 1)
    p.gradient(0, 0.66, *SKY[t])
    p.c.fill()
    if s["stars"]:
        rng = part("stars")
        for _ in range(24):
            p.disc(rng.random(), rng.random() * 0.55, rng.choice((0.007, 0.010, 0.013)), (1, 1, 0.92), glow=1)
    if s["rainbow"]:
        bands = ((0.93, 0.25, 0.25), (0.98, 0.60, 0.20), (0.99, 0.90, 0.30), (0.35, 0.80, 0.40), (0.30, 0.50, 0.95), (0.60, 0.35, 0.80))
        p.c.set_line_width(0.022)
        for i, c in enumerate(bands):
            p.c.set_source_rgba(*c, 0.85)
            p.c.arc(0.5, 0.68, 0.50 - 0.021 * i, math.pi, 2 * math.pi)
            p.c.stroke()
    rng = part("body")
    bx = POS_X[s["body_pos"]] + rng.uniform(-0.04, 0.04)
    by = (0.36 if t == "sunset" and s["terrain"] != "mountains" else 0.17) + rng.uniform(-0.03, 0.03)
    if s["body"] == "sun":
        col = (1.0, 0.86, 0.25) if t == "day" else (1.0, 0.45, 0.18)
        p.glow(bx, by, 0.22, col, 0.6)
        p.disc(bx, by, 0.075 if t == "day" else 0.09, col, glow=1)
    elif s["body"] == "moon":
        p.glow(bx, by, 0.18, (0.9, 0.9, 0.75), 0.35)
        p.disc(bx, by, 0.075, (0.97, 0.96, 0.85), glow=1)
        for dx, dy, r in ((-0.025, -0.02, 0.016), (0.025, 0.015, 0.02), (-0.01, 0.035, 0.011)):
            p.disc(bx + dx, by + dy, r, (0.85, 0.84, 0.74), glow=1)
    elif s["body"] == "crescent":
        p.c.save()                                   # two arcs: outer edge, then back along the inner edge
        p.c.translate(bx, by)
        p.c.rotate(-0.35)
        p.c.arc(0, 0, 0.08, math.radians(-90), math.radians(90))
        p.c.arc_negative(-0.045, 0, math.hypot(0.045, 0.08), math.atan2(0.08, 0.045), -math.atan2(0.08, 0.045))
        p.c.close_path()
        p.c.restore()
        p.fill((0.98, 0.94, 0.70), glow=1)
    rng = part("clouds")
    if s["clouds"]:
        col = (1, 1, 1) if t == "day" else (0.98, 0.70, 0.62)
        for x in (0.16, 0.50, 0.84):
            x, y, k = x + rng.uniform(-0.06, 0.06), 0.11 + rng.uniform(-0.04, 0.20), rng.uniform(0.8, 1.1)
            if s["body"] == "none" or abs(x - bx) > 0.2:
                cloud(p, x, y, k, col)
    if t == "storm":
        for x in (0.08, 0.34, 0.62, 0.92):
            cloud(p, x + rng.uniform(-0.05, 0.05), 0.10 + rng.uniform(-0.05, 0.06), rng.uniform(1.4, 1.9), (0.30, 0.32, 0.37), 1.0)
        x, y = rng.uniform(0.2, 0.8), 0.18
        p.poly([(x, y), (x + 0.045, y), (x + 0.012, y + 0.14), (x + 0.05, y + 0.14), (x - 0.03, y + 0.36), (x - 0.005, y + 0.19), (x - 0.04, y + 0.19)],
               (1.0, 0.93, 0.45), glow=1)


def paint_sea(p, s, top, bottom):
    col = {"day": ((0.20, 0.55, 0.80), (0.07, 0.33, 0.62)), "sunset": ((0.85, 0.48, 0.40), (0.30, 0.20, 0.42)),
           "night": ((0.10, 0.17, 0.36), (0.04, 0.08, 0.22)), "storm": ((0.33, 0.40, 0.45), (0.16, 0.22, 0.28))}[s["time"]]
    p.c.rectangle(0, top, 1, bottom - top)
    p.gradient(top, bottom, *col)
    p.c.fill()


def paint_waves(p, s, top, bottom, rng):
    light = {"day": (0.85, 0.95, 1), "sunset": (1, 0.75, 0.5), "night": (0.45, 0.55, 0.8), "storm": (0.7, 0.75, 0.8)}[s["time"]]
    p.c.set_line_width(0.011)
    p.c.set_line_cap(cairo.LINE_CAP_ROUND)
    for i in range(9):
        y = top + (bottom - top) * (0.08 + 0.88 * (i + rng.random()) / 9)
        x, w = rng.uniform(0, 0.9), rng.uniform(0.08, 0.15)
        p.c.set_source_rgba(*light, 0.55)
        p.c.move_to(x, y)
        p.c.curve_to(x + w / 3, y - 0.012, x + 2 * w / 3, y + 0.012, x + w, y)
        p.c.stroke()


def paint_land(p, s, rng):
    """Paints the terrain; gives the y of the ground line where objects stand."""
    t, ph = s["terrain"], rng.uniform(0, 6.28)
    if t == "hills":
        p.ridge(0.62, 0.045, 1.1, ph, (0.45, 0.72, 0.42), (0.35, 0.62, 0.35), 0)
        p.ridge(0.70, 0.035, 0.8, ph + 2, (0.42, 0.74, 0.30), (0.24, 0.55, 0.20), 0)
        return 0.80
    if t == "mountains":
        for x, h, w in ((0.20, 0.36, 0.30), (0.80, 0.34, 0.32), (0.50, 0.44, 0.34)):
            x, h = x + rng.uniform(-0.05, 0.05), h + rng.uniform(-0.03, 0.03)
            top, base = 0.72 - h, 0.72
            p.poly([(x - w, base), (x, top), (x + w, base)], (0.46, 0.50, 0.60))
            p.poly([(x, top), (x + w, base), (x + w * 0.25, base)], (0.38, 0.42, 0.52))
            k = 0.42
            p.poly([(x, top), (x + w * k, top + h * k), (x + w * 0.2, top + h * 0.30), (x + w * 0.02, top + h * 0.46),
                    (x - w * 0.18, top + h * 0.31), (x - w * k, top + h * k)], (0.97, 0.98, 1.0), glow=0.15)
        p.ridge(0.71, 0.02, 0.9, ph, (0.40, 0.66, 0.38), (0.25, 0.48, 0.24), 0)
        return 0.82
    if t == "desert":
        p.ridge(0.62, 0.04, 0.9, ph, (0.93, 0.76, 0.48), (0.88, 0.68, 0.40), 0)
        p.ridge(0.70, 0.035, 0.7, ph + 2.5, (0.96, 0.82, 0.54), (0.84, 0.62, 0.34), 0)
        return 0.81
    if t == "sea":
        paint_sea(p, s, 0.60, 1.0)
        paint_waves(p, s, 0.60, 1.0, rng)
        return 0.80
    paint_sea(p, s, 0.56, 0.76)                                   # beach
    paint_waves(p, s, 0.56, 0.73, rng)
    p.ridge(0.745, 0.012, 1.2, ph, (1, 1, 1), (1, 1, 1), 0)
    p.ridge(0.76, 0.012, 1.2, ph, (0.97, 0.87, 0.62), (0.90, 0.75, 0.48), 0)
    return 0.86


def paint_house(p, x, y, o, s, rng):
    col, night = COLORS[o["color"]], s["time"] in ("night", "storm")
    w, h = 0.20, 0.15
    p.rect(x - w / 2, y - h, w, h, col, glow=0.45)
    p.rect(x + 0.045, y - h - 0.10, 0.03, 0.08, (0.45, 0.30, 0.26))
    p.poly([(x - w / 2 - 0.03, y - h), (x, y - h - 0.11), (x + w / 2 + 0.03, y - h)], (0.42, 0.27, 0.22))
    p.rect(x - 0.022, y - 0.085, 0.044, 0.085, (0.34, 0.22, 0.16))
    pane = (1.0, 0.90, 0.45) if night else (0.80, 0.92, 0.98)
    for dx in (-0.062, 0.062):
        p.rect(x + dx - 0.022, y - 0.115, 0.044, 0.044, pane, glow=1 if night else 0.45)


def paint_pine(p, x, y, k=1.0):
    p.rect(x - 0.011 * k, y - 0.05 * k, 0.022 * k, 0.05 * k, (0.40, 0.27, 0.18))
    for i, w in enumerate((0.075, 0.062, 0.047)):
        b = y - (0.04 + 0.065 * i) * k
        p.poly([(x - w * k, b), (x, b - 0.11 * k), (x + w * k, b)], (0.08, 0.40 + 0.05 * i, 0.24))


def paint_tree(p, x, y, k=1.0):
    p.rect(x - 0.014 * k, y - 0.11 * k, 0.028 * k, 0.11 * k, (0.45, 0.30, 0.20))
    for dx, dy, r in ((-0.04, -0.13, 0.052), (0.04, -0.13, 0.052), (0, -0.18, 0.06)):
        p.disc(x + dx * k, y + dy * k, r * k, (0.20, 0.56, 0.18))


def paint_palm(p, x, y, k=1.0):
    top = (x + 0.03 * k, y - 0.22 * k)
    p.c.set_line_width(0.024 * k)
    p.c.set_source_rgb(*p.lit((0.52, 0.36, 0.22)))
    p.c.move_to(x, y)
    p.c.curve_to(x, y - 0.1 * k, x + 0.01 * k, y - 0.16 * k, *top)
    p.c.stroke()
    for a in (-165, -125, -55, -15, 20, 160):
        dx, dy = math.cos(math.radians(a)) * 0.10 * k, math.sin(math.radians(a)) * 0.075 * k
        p.c.move_to(*top)
        p.c.curve_to(top[0] + dx * 0.4, top[1] + dy - 0.02 * k, top[0] + dx * 0.8, top[1] + dy, top[0] + dx, top[1] + dy + 0.035 * k)
        p.c.curve_to(top[0] + dx * 0.7, top[1] + dy + 0.03 * k, top[0] + dx * 0.3, top[1] + dy + 0.03 * k, *top)
        p.fill((0.14, 0.52, 0.24))


def paint_cactus(p, x, y, k=1.0):
    p.c.set_line_cap(cairo.LINE_CAP_ROUND)
    p.c.set_line_join(cairo.LINE_JOIN_ROUND)
    p.c.set_source_rgb(*p.lit((0.16, 0.50, 0.26)))
    for pts, w in (([(0, 0), (0, -0.19)], 0.042), ([(0, -0.07), (-0.055, -0.07), (-0.055, -0.13)], 0.028), ([(0, -0.10), (0.055, -0.10), (0.055, -0.16)], 0.028)):
        p.c.set_line_width(w * k)
        p.c.move_to(x + pts[0][0] * k, y + pts[0][1] * k)
        for a, b in pts[1:]:
            p.c.line_to(x + a * k, y + b * k)
        p.c.stroke()


def paint_windmill(p, x, y, rng):
    p.poly([(x - 0.055, y), (x - 0.035, y - 0.20), (x + 0.035, y - 0.20), (x + 0.055, y)], (0.93, 0.90, 0.84))
    p.poly([(x - 0.045, y - 0.20), (x, y - 0.25), (x + 0.045, y - 0.20)], (0.55, 0.30, 0.24))
    p.rect(x - 0.015, y - 0.06, 0.03, 0.06, (0.40, 0.28, 0.20))
    a0 = math.radians(rng.choice((20, 35, 50, 65)))
    for i in range(4):
        p.c.save()
        p.c.translate(x, y - 0.20)
        p.c.rotate(a0 + i * math.pi / 2)
        p.c.rectangle(0.01, -0.005, 0.13, 0.030)
        p.c.restore()
        p.fill((0.62, 0.42, 0.30))
    p.disc(x, y - 0.20, 0.014, (0.3, 0.2, 0.15))


def paint_lighthouse(p, x, y, s):
    p.disc(x, y + 0.015, 0.1, (0.42, 0.40, 0.40), sy=0.42)
    y -= 0.01
    hw = lambda f: 0.045 - 0.016 * f
    for i in range(5):
        f0, f1 = i / 5, (i + 1) / 5
        p.poly([(x - hw(f0), y - 0.26 * f0), (x - hw(f1), y - 0.26 * f1), (x + hw(f1), y - 0.26 * f1), (x + hw(f0), y - 0.26 * f0)],
               (0.88, 0.20, 0.18) if i % 2 else (0.97, 0.97, 0.95), glow=0.2)
    if s["time"] != "day":
        side = 1 if x < 0.5 else -1
        p.poly([(x, y - 0.28), (x + side * 0.55, y - 0.38), (x + side * 0.55, y - 0.22)], (1, 0.95, 0.6), alpha=0.30, glow=1)
    p.rect(x - 0.024, y - 0.30, 0.048, 0.042, (1, 0.93, 0.5), glow=1)
    p.poly([(x - 0.034, y - 0.30), (x, y - 0.34), (x + 0.034, y - 0.30)], (0.75, 0.15, 0.14))


def paint_boat(p, x, y, o):
    p.rect(x - 0.006, y - 0.25, 0.012, 0.22, (0.35, 0.24, 0.16))
    p.poly([(x + 0.012, y - 0.25), (x + 0.012, y - 0.055), (x + 0.125, y - 0.055)], COLORS[o["color"]], glow=0.45)
    p.poly([(x - 0.012, y - 0.22), (x - 0.012, y - 0.055), (x - 0.085, y - 0.055)], COLORS[o["color"]], glow=0.45)
    p.poly([(x - 0.125, y - 0.04), (x + 0.125, y - 0.04), (x + 0.085, y + 0.015), (x - 0.085, y + 0.015)], (0.45, 0.28, 0.18))


def paint_balloon(p, x, y, o):
    col = COLORS[o["color"]]
    p.disc(x, y, 0.098, col, glow=0.45)
    p.poly([(x - 0.088, y + 0.045), (x + 0.088, y + 0.045), (x + 0.026, y + 0.135), (x - 0.026, y + 0.135)], col, glow=0.45)
    p.disc(x, y - 0.005, 0.098, tuple(0.55 + 0.45 * v for v in col), sx=0.33, alpha=0.55, glow=0.45)
    p.c.set_line_width(0.006)
    p.c.set_source_rgb(*p.lit((0.3, 0.2, 0.15)))
    for d in (-1, 1):
        p.c.move_to(x + d * 0.024, y + 0.133)
        p.c.line_to(x + d * 0.020, y + 0.165)
        p.c.stroke()
    p.rect(x - 0.025, y + 0.162, 0.05, 0.036, (0.50, 0.33, 0.20))


def render(s, size=128):
    """The scene as an RGB uint8 array (size, size, 3). Same record, same picture."""
    part = lambda name: random.Random(f"{s['seed']} {name}")      # an edit of one part leaves the others where they are
    p = Painter(size, LIGHT[s["time"]])
    paint_sky(p, s, part)
    ground = paint_land(p, s, part("land"))
    offs = {1: (0,), 2: (-0.065, 0.065), 3: (-0.10, 0.0, 0.10)}
    order = sorted(s["objects"], key=lambda o: o["kind"] == "sailboat", reverse=True)
    for o in order:
        rng = part("at " + o["pos"] + (" in the air" if o["kind"] == "balloon" else ""))
        x, y = POS_X[o["pos"]] + rng.uniform(-0.03, 0.03), ground + rng.uniform(-0.02, 0.03)
        k = o["kind"]
        if k == "balloon":
            y = 0.24 + rng.uniform(-0.03, 0.04)
        elif k == "sailboat" and s["terrain"] != "sea":
            y = 0.70
        p.c.save()                                                # objects are drawn 1.2 times as large
        p.c.translate(x, y)
        p.c.scale(1.2, 1.2)
        p.c.translate(-x, -y)
        if k == "house":
            paint_house(p, x, y, o, s, rng)
        elif k == "windmill":
            paint_windmill(p, x, y, rng)
        elif k == "lighthouse":
            paint_lighthouse(p, x, y, s)
        elif k == "sailboat":
            paint_boat(p, x, y, o)
        elif k == "balloon":
            paint_balloon(p, x, y, o)
        else:
            draw = dict(pine=paint_pine, tree=paint_tree, palm=paint_palm, cactus=paint_cactus)[k]
            n = o["count"]
            for i, dx in enumerate(offs[n]):
                draw(p, x + dx, y + (0.015 if i == 1 else 0), (1.15, 0.95, 0.85)[n - 1])
        p.c.restore()
    if s["time"] == "storm":
        p.c.set_line_width(0.008)
        p.c.set_source_rgba(0.80, 0.86, 0.95, 0.45)
        rng = part("rain")
        for _ in range(28):
            x, y = rng.random() * 1.1, rng.uniform(0.2, 0.95)
            p.c.move_to(x, y)
            p.c.line_to(x - 0.018, y + 0.055)
            p.c.stroke()
    return p.array()


if __name__ == "__main__":
    import sys
    from PIL import Image
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sheet = Image.new("RGB", (8 * 128, 4 * 128))
    for i in range(32):
        s = random_scene(rng)
        sheet.paste(Image.fromarray(render(s)), (i % 8 * 128, i // 8 * 128))
        print(i, caption(s, rng))
    sheet.save(sys.argv[1] if len(sys.argv) > 1 else "scenes.png")
