"""The words of the embedded world: its topics, and how titles, blurbs and comments are phrased.

Each topic is told in about ten English and eight Chinese words, of which an item uses a few, so
that a reader must learn which words belong together. A few words belong to two topics, as in
life. English entries are plural or uncountable, so that every template fits every word.
"""

from __future__ import annotations

from typing import NamedTuple


class Topic(NamedTuple):
    """A subject that runs across all domains, and the words that it is told in."""

    name: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]


def _topic(name: str, english: str, chinese: str) -> Topic:
    return Topic(name, tuple(english.split(", ")), tuple(chinese.split("、")))


TOPICS: tuple[Topic, ...] = (
    _topic(
        "jazz",
        "saxophone solos, swing, bebop, blue notes, jam sessions, double bass, big bands, brushed drums, scales, scat",
        "爵士乐、萨克斯、摇摆乐、即兴演奏、蓝调、低音提琴、大乐队、音阶",
    ),
    _topic(
        "classical",
        "symphonies, string quartets, sonatas, conductors, cellos, fugues, opera arias, concert halls, Bach, scales",
        "交响乐、弦乐四重奏、奏鸣曲、指挥家、大提琴、赋格、歌剧、音阶",
    ),
    _topic(
        "hiking",
        "mountain trails, summits, backpacks, ridge walks, campfires, alpine huts, waterfalls, tents, boots, routes",
        "徒步、登山、背包、露营、山脊、帐篷、瀑布、路线",
    ),
    _topic(
        "cycling",
        "road bikes, gravel rides, hill climbs, pedals, spokes, sprint finishes, bike lanes, helmets, frames, routes",
        "骑行、公路车、爬坡、车架、头盔、自行车道、环法、路线",
    ),
    _topic(
        "football",
        "penalty kicks, goalkeepers, midfielders, derby matches, free kicks, offside traps, dribbling, cup finals",
        "足球、点球、守门员、中场、德比、任意球、世界杯、球迷",
    ),
    _topic(
        "yoga",
        "sun salutations, breathing, stretches, meditation, balance poses, headstands, mats, mindfulness",
        "瑜伽、冥想、呼吸法、拉伸、拜日式、倒立、平衡、正念",
    ),
    _topic(
        "cooking",
        "stir-fries, soups, dumplings, knife skills, spices, slow roasts, sourdough, sauces, weeknight dinners",
        "家常菜、饺子、煲汤、刀工、香料、面条、酱汁、烘焙",
    ),
    _topic(
        "coffee",
        "espresso, latte art, pour-overs, roasting, grinders, cold brew, baristas, arabica beans, crema, moka pots",
        "咖啡、拉花、手冲、烘豆、磨豆机、冷萃、咖啡师、意式浓缩",
    ),
    _topic(
        "gardening",
        "tomatoes, compost, roses, seedlings, pruning, raised beds, herbs, greenhouses, soil, houseplants",
        "园艺、多肉植物、堆肥、月季、播种、修剪、阳台种菜、温室",
    ),
    _topic(
        "pets",
        "kittens, puppies, cat naps, dog walks, rabbits, leashes, grooming, treats, shelter dogs, whiskers",
        "猫咪、小狗、遛狗、铲屎官、兔子、宠物零食、领养、驯养",
    ),
    _topic(
        "space",
        "rockets, black holes, Mars rovers, telescopes, galaxies, moon landings, comets, orbits, astronauts, nebulae",
        "火箭、黑洞、火星车、望远镜、银河、登月、彗星、宇航员",
    ),
    _topic(
        "coding",
        "Python, debugging, algorithms, unit tests, open source, compilers, refactoring, databases, recursion",
        "编程、算法、调试、开源、编译器、重构、数据库、递归",
    ),
    _topic(
        "robotics",
        "robot arms, drones, sensors, motors, humanoids, grippers, path planning, soldering, servos, swarms",
        "机器人、无人机、传感器、机械臂、电机、人形机器人、焊接、路径规划",
    ),
    _topic(
        "history",
        "ancient empires, silk roads, castles, archives, dynasties, Roman ruins, shipwrecks, treaties, excavations",
        "古代帝国、丝绸之路、城堡、王朝、考古、史料、文物、航海",
    ),
    _topic(
        "cinema",
        "directors, film noir, plot twists, close-ups, screenplays, film scores, premieres, cult classics, frames",
        "电影、导演、黑色电影、剧本、长镜头、配乐、首映、剪辑",
    ),
    _topic(
        "photography",
        "portraits, lenses, long exposures, street scenes, film rolls, golden hour, tripods, darkrooms, shutters",
        "摄影、人像、镜头、长曝光、胶片、街拍、三脚架、暗房",
    ),
    _topic(
        "painting",
        "watercolours, oil paints, brushstrokes, still lifes, sketchbooks, landscapes, canvases, pigments, frescoes",
        "水彩、油画、素描、静物、写生、颜料、画布、水墨",
    ),
    _topic(
        "fashion",
        "linen shirts, denim, runways, sneakers, tailoring, silk scarves, capsule wardrobes, vintage coats, knits",
        "穿搭、牛仔、秀场、球鞋、剪裁、丝巾、复古大衣、针织",
    ),
    _topic(
        "travel",
        "night trains, island hopping, street food, passports, old towns, hostels, road trips, souvenirs, ferries",
        "旅行、夜行列车、海岛、古镇、青旅、自驾游、护照、街头小吃",
    ),
    _topic(
        "diving",
        "coral reefs, sea turtles, wetsuits, manta rays, snorkels, kelp forests, deep water, air tanks, shipwrecks",
        "潜水、珊瑚礁、海龟、浮潜、蝠鲼、湿衣、深海、氧气瓶",
    ),
    _topic(
        "chess",
        "endgames, gambits, checkmates, grandmasters, knight forks, pawn chains, blitz, castling, openings",
        "国际象棋、残局、开局、将杀、弃子、特级大师、棋手、快棋",
    ),
    _topic(
        "investing",
        "index funds, dividends, compound interest, bonds, bear markets, pensions, portfolios, savings, stocks",
        "指数基金、股息、复利、债券、熊市、养老金、理财、预算",
    ),
    _topic(
        "parenting",
        "bedtime stories, toddlers, tantrums, school lunches, baby steps, picture books, playdates, naps, lullabies",
        "育儿、睡前故事、绘本、辅食、亲子、发脾气、幼儿园、摇篮曲",
    ),
    _topic(
        "woodworking",
        "dovetails, chisels, oak tables, hand planes, sawdust, walnut bowls, joinery, workbenches, varnish, carving",
        "木工、榫卯、凿子、刨子、胡桃木、工作台、清漆、雕刻",
    ),
)

DOMAINS = ("articles", "music", "video", "products", "podcasts")

# {a} and {b} are words of the main topic ({A}, {B}: with a capital), {m} one of the minor topic.
ENGLISH_TITLES: dict[str, tuple[str, ...]] = {
    "articles": (
        "What {a} can teach us about {b}",
        "A beginner's guide to {a}",
        "The quiet joy of {a}",
        "Ten questions about {a}, answered",
        "In praise of {a} and {b}",
        "From {a} to {b}: notes by an amateur",
    ),
    "music": (
        "{A} at midnight",
        "Songs about {a} and {b}",
        "{A} & {B}",
        "Variations on {a}",
        "Ballad of {a} and {b}",
        "Dreaming of {a}",
    ),
    "video": (
        "{A} in five minutes",
        "{A} versus {b}: the big test",
        "One day with {a} and {b}",
        "{A}: a short documentary",
        "Up close: {a}",
        "Behind the scenes: {a}",
    ),
    "products": (
        "Gift box: {a} and {b}",
        "Sticker set: {a}",
        "Wall calendar: {a}",
        "Poster: {a} and {b}",
        "Pocket handbook of {a}",
        "Mug for fans of {a}",
    ),
    "podcasts": (
        "{A} and {b}, explained by friends",
        "Late-night talk about {a}",
        "Three voices on {a}",
        "Long walk, long talk: {a}",
        "Let us talk about {a} and {b}",
        "An hour of {a}",
    ),
}
CHINESE_TITLES: dict[str, tuple[str, ...]] = {
    "articles": (
        "{a}入门指南",
        "从{a}到{b}：一个爱好者的笔记",
        "关于{a}的十个问题",
        "{a}与{b}的乐趣",
        "我们为什么离不开{a}",
    ),
    "music": ("午夜{a}", "写给{a}的歌", "{a}与{b}", "{a}变奏曲", "梦见{a}"),
    "video": ("五分钟看懂{a}", "{a}和{b}大比拼", "与{a}相伴的一天", "{a}：纪录短片", "近距离看{a}"),
    "products": ("{a}主题礼盒", "{a}贴纸套装", "{a}挂历", "{a}与{b}装饰海报", "{a}随身手册"),
    "podcasts": ("和朋友聊聊{a}与{b}", "{a}夜谈", "三个人说{a}", "边走边聊：{a}", "{a}一小时"),
}

ENGLISH_BLURBS = (
    "A close look at {a}, with plenty of {b} along the way.",
    "It starts with {a} and ends somewhere near {b}.",
    "Made for people who care about {a} and {b}.",
    "Everything you wanted to know about {a}, and a little about {b}.",
    "Made with love for {a}.",
)
CHINESE_BLURBS = (
    "从{a}讲起，一路说到{b}。",
    "为喜欢{a}和{b}的人准备。",
    "围绕{a}展开，也带你看看{b}。",
    "关于{a}，你想知道的都在这里。",
    "献给所有热爱{a}的人。",
)
ENGLISH_ASIDES = (
    "With a side note on {m}.",
    "Also touches on {m}.",
    "Fans of {m} will feel at home.",
    "Comes with a bonus about {m}.",
)
CHINESE_ASIDES = ("还会提到{m}。", "喜欢{m}的朋友也会觉得亲切。", "顺便聊聊{m}。", "附赠{m}小知识。")
ENGLISH_FILLERS = (
    "New this week.",
    "Recommended by our readers.",
    "No experience needed.",
    "Back by popular demand.",
    "Short and sweet.",
    "Good company for a rainy evening.",
    "",
)
CHINESE_FILLERS = (
    "本周上新。",
    "读者推荐。",
    "零基础也能懂。",
    "应大家要求再次推出。",
    "短小精悍。",
    "适合雨天的晚上。",
    "",
)

# A comment by somebody whom the item suits, and by somebody whom it does not.
ENGLISH_PRAISE = ("Love the {a}!", "More {a}, please.", "{A} done right.", "I could enjoy {a} all day.")
CHINESE_PRAISE = ("{a}太棒了！", "还想要更多{a}。", "就喜欢{a}！", "{a}，怎么都不腻。")
ENGLISH_DOUBT = ("Not enough {a} for me.", "I hoped for more {a}.", "{A}? Not my thing.")
CHINESE_DOUBT = ("{a}有点少。", "以为会有更多{a}。", "{a}不太适合我。")
