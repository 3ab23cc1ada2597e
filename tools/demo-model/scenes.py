"""Procedural landscape scenes: a parameter record, and captions for it. painting.py draws it.

A scene is a plain dict:
  time     day | sunset | night | storm
  terrain  hills | mountains | desert | sea | beach
  body     sun | moon | crescent | none       body_pos  left | center | right
  stars, clouds, rainbow                      booleans
  objects  list of {kind, color, pos, count}  (color only where the kind has one)
`random_scene` draws a record, `caption` describes it.
"""

COLORS = {
    "red": (0.86, 0.16, 0.15), "orange": (0.97, 0.55, 0.12), "yellow": (0.98, 0.84, 0.20),
    "green": (0.16, 0.66, 0.32), "blue": (0.16, 0.38, 0.85), "purple": (0.55, 0.25, 0.72),
    "pink": (0.96, 0.52, 0.70), "white": (0.97, 0.97, 0.95),
}
TIMES = ("day", "sunset", "night", "storm")
TERRAINS = ("hills", "mountains", "desert", "sea", "beach")
POSITIONS = ("left", "center", "right")
POS_X = {"left": 0.20, "center": 0.50, "right": 0.80}
COLORED = ("house", "sailboat", "balloon")
PLACES = {  # which ground objects may stand on which terrain
    "hills": ("house", "house", "pine", "tree", "windmill"),
    "mountains": ("house", "house", "pine", "windmill"),
    "desert": ("cactus", "cactus", "palm", "house"),
    "sea": ("sailboat", "sailboat", "lighthouse"),
    "beach": ("palm", "house", "lighthouse", "sailboat"),
}
KINDS = ("house", "pine", "tree", "windmill", "cactus", "palm", "sailboat", "lighthouse", "balloon")


# ---------------------------------------------------------------- records
def random_scene(rng):
    time = rng.choices(TIMES, (4, 3, 3, 2))[0]
    terrain = rng.choice(TERRAINS)
    s = dict(time=time, terrain=terrain, body="none", body_pos="center", stars=False, clouds=False,
             rainbow=False, seed=rng.randrange(1 << 30))
    if time == "day":
        s["body"] = rng.choices(("sun", "none"), (3, 2))[0]
        s["clouds"] = rng.random() < 0.4
        s["rainbow"] = rng.random() < 0.2
    elif time == "sunset":
        s["body"] = rng.choices(("sun", "none"), (4, 1))[0]
        s["clouds"] = rng.random() < 0.25
    elif time == "night":
        s["body"] = rng.choices(("moon", "crescent", "none"), (3, 3, 2))[0]
        s["stars"] = rng.random() < 0.5
    s["body_pos"] = rng.choice(POSITIONS)

    spots = list(POSITIONS)
    rng.shuffle(spots)
    objects = []
    for _ in range(rng.choices((0, 1, 2), (1, 6, 4))[0]):
        kind = rng.choice(PLACES[terrain])
        if any(o["kind"] == kind for o in objects):
            continue
        o = dict(kind=kind, pos=spots.pop(), count=1)
        if kind in COLORED:
            o["color"] = rng.choice(list(COLORS))
        if kind in ("pine", "tree", "palm", "cactus"):
            o["count"] = rng.choices((1, 2, 3), (4, 3, 2))[0]
        objects.append(o)
    if time != "storm" and not s["rainbow"] and rng.random() < (0.25 if objects else 0.9):
        sky = [p for p in POSITIONS if s["body"] == "none" or p != s["body_pos"]]
        objects.append(dict(kind="balloon", color=rng.choice(list(COLORS)), pos=rng.choice(sky), count=1))
    s["objects"] = objects
    return s


def combo(s):
    """The attribute combination used to keep a test set apart from training."""
    objs = sorted((o["kind"], o.get("color", ""), o["count"]) for o in s["objects"])
    return repr((s["time"], s["terrain"], s["body"], objs))


def held_out(s):
    h = 0
    for c in combo(s).encode():
        h = (h * 131 + c) % 1000003
    return h % 12 == 0


def flipped(s):
    swap = {"left": "right", "right": "left", "center": "center"}
    return dict(s, body_pos=swap[s["body_pos"]], objects=[dict(o, pos=swap[o["pos"]]) for o in s["objects"]])


# ---------------------------------------------------------------- captions
NUMBER = {1: "a", 2: "two", 3: "three"}
PLURAL = {"pine": "pine trees", "tree": "trees", "palm": "palm trees", "cactus": "cacti"}
SINGULAR = {"pine": "pine tree", "palm": "palm tree", "balloon": "hot air balloon"}


def noun(o, rng):
    kind, n, col = o["kind"], o["count"], o.get("color")
    if n > 1:
        return f"{NUMBER[n]} {PLURAL[kind]}"
    name = SINGULAR.get(kind, kind)
    if kind == "sailboat":
        return rng.choice((f"a sailboat with {'an' if col[0] == 'o' else 'a'} {col} sail",
                           f"a boat with {'an' if col[0] == 'o' else 'a'} {col} sail", f"{'an' if col[0] == 'o' else 'a'} {col} sailboat"))
    if col:
        name = f"{col} {name}"
    return f"{'an' if name[0] in 'ao' else 'a'} {name}"


def where(pos, rng):
    if pos == "center":
        return rng.choice(("in the center", "in the middle"))
    return rng.choice((f"on the {pos}", f"on the {pos} side"))


def caption(s, rng, share=0.5, told=None):
    """A random wording. `share`: how often a place is named. A dict `told` receives, for each kind of thing (and "body"),
    the words that describe it and whether they name its place."""
    told = {} if told is None else told
    objs = list(s["objects"])
    rng.shuffle(objs)
    things = []
    for o in objs:
        named = rng.random() < share
        things.append(noun(o, rng) + (" " + where(o["pos"], rng) if named else ""))
        told[o["kind"]] = things[-1], named
    land = {"hills": ("green hills", "rolling hills", "green meadows"),
            "mountains": ("snowy mountains", "mountains", "mountains with snow"),
            "desert": ("a desert", "the desert", "sand dunes"),
            "sea": ("the sea", "the ocean", "a calm sea"),
            "beach": ("a beach", "a sandy beach", "the beach")}[s["terrain"]]
    land = rng.choice(land)
    time = rng.choice({"day": ("day", "daytime", "a sunny day" if s["body"] == "sun" else "a clear day"),
                       "sunset": ("sunset", "sunset", "dusk"),
                       "night": ("night", "night", "a dark night"),
                       "storm": ("storm", "a storm", "a thunderstorm")}[s["time"]])
    sky = []
    if s["body"] != "none":
        b = {"sun": ("the sun", "a bright sun", "a sun"), "moon": ("a full moon", "a full moon", "a moon"),
             "crescent": ("a crescent moon",)}[s["body"]]
        b = rng.choice(b)
        named = rng.random() < 0.8 * share
        if named:
            b += " " + where(s["body_pos"], rng)
        if "sunny" in time and rng.random() < 0.5:            # a sunny day tells of the sun by itself
            named = False
        else:
            sky.append(b)
            told["body"] = b, named
    if s["stars"]:
        sky.append(rng.choice(("stars", "a starry sky")))
    if s["clouds"]:
        sky.append(rng.choice(("clouds", "white clouds") if s["time"] == "day" else ("clouds",)))
    if s["rainbow"]:
        sky.append("a rainbow")
    rng.shuffle(sky)

    style = rng.random()
    if style < 0.4:                                            # comma list
        t = {"storm": "storm"}.get(s["time"], time.replace("a ", ""))
        parts = things + sky + [land.removeprefix("a ").removeprefix("the ") if rng.random() < 0.5 else land]
        rng.shuffle(parts)
        parts.insert(rng.choice((0, len(parts))), t)
        text = ", ".join(parts)
    else:                                                      # sentence
        near = {"hills": ("in", "on", "among"), "mountains": ("in", "in front of", "below"),
                "desert": ("in",), "sea": ("on", "at"), "beach": ("on", "at")}[s["terrain"]]
        prep = rng.choice(near)
        if land == "sand dunes":
            prep = "among"
        when = {"day": f"on {time}" if time.startswith("a ") else ("during the day" if time == "day" else "in the daytime"),
                "sunset": f"at {time}", "night": "at night" if time == "night" else f"on {time}",
                "storm": rng.choice(("in a storm", "during a thunderstorm"))}[s["time"]]
        if things:
            subject = things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]
            text = f"{subject} {prep} {land}"
        else:
            text = land
        if sky:
            under = sky[0] if len(sky) == 1 else ", ".join(sky[:-1]) + " and " + sky[-1]
            text = rng.choice((f"{text} {when} with {under}", f"{text} under {under} {when}", f"{text} {when}, {under}"))
        else:
            text = rng.choice((f"{text} {when}", f"{text} {when}", f"{when.removeprefix('on ')}, {text}"))
    if rng.random() < 0.15:
        text = rng.choice(("a picture of ", "an illustration of ", "a drawing of ")) + text
    return text


def plain_caption(s, told=None):
    """One fixed wording that names everything in the record (used for measuring; `told` as in `caption`)."""
    told = {} if told is None else told

    class First:                                         # every choice the first, every place named
        choice = staticmethod(lambda options: options[0])
        random = staticmethod(lambda: 0.42)
    rng = First()
    things = [f"{noun(o, rng)} {where(o['pos'], rng)}" for o in s["objects"]]
    told.update({o["kind"]: (t, True) for o, t in zip(s["objects"], things)})
    land = {"hills": "in green hills", "mountains": "in front of snowy mountains", "desert": "in the desert", "sea": "on the sea", "beach": "on a beach"}[s["terrain"]]
    when = {"day": "during the day", "sunset": "at sunset", "night": "at night", "storm": "in a storm"}[s["time"]]
    sky = {"none": [], "sun": ["the sun"], "moon": ["a full moon"], "crescent": ["a crescent moon"]}[s["body"]]
    sky = [f"{b} {where(s['body_pos'], rng)}" for b in sky]
    told.update({"body": (b, True) for b in sky})
    sky += [n for n in ("stars", "clouds") if s[n]] + ["a rainbow"] * s["rainbow"]
    text = " and ".join(things + [""])[:-5] + f" {land} {when}" if things else f"{land.split(' ', 1)[1].removeprefix('front of ')} {when}"
    return text + (" with " + " and ".join(sky) if sky else "")
