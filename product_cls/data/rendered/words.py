"""Words and colours of the synthetic shop. All names are invented."""

from typing import NamedTuple

Colour = tuple[int, int, int]  # RGB, 0 to 255


class Flavour(NamedTuple):
    english: str
    korean: str
    emoji: str
    accent: Colour


FRUIT = (
    Flavour("Strawberry", "딸기", "🍓", (222, 44, 72)),
    Flavour("Blueberry", "블루베리", "🫐", (72, 92, 190)),
    Flavour("Banana", "바나나", "🍌", (244, 200, 52)),
    Flavour("Grape", "포도", "🍇", (128, 60, 160)),
    Flavour("Peach", "복숭아", "🍑", (250, 150, 122)),
    Flavour("Lemon", "레몬", "🍋", (238, 214, 40)),
    Flavour("Green Apple", "청사과", "🍏", (126, 188, 52)),
    Flavour("Orange", "오렌지", "🍊", (246, 136, 28)),
    Flavour("Melon", "멜론", "🍈", (160, 205, 120)),
    Flavour("Mango", "망고", "🥭", (250, 172, 44)),
    Flavour("Cherry", "체리", "🍒", (176, 22, 52)),
    Flavour("Kiwi", "키위", "🥝", (110, 150, 46)),
)
SWEET = (
    Flavour("Chocolate", "초콜릿", "🍫", (110, 66, 44)),
    Flavour("Honey", "벌꿀", "🍯", (240, 176, 40)),
    Flavour("Milk", "우유", "🥛", (120, 180, 226)),
    Flavour("Chestnut", "밤", "🌰", (150, 96, 62)),
    Flavour("Peanut", "땅콩", "🥜", (206, 154, 88)),
    Flavour("Sweet Potato", "고구마", "🍠", (160, 62, 110)),
    Flavour("Strawberry", "딸기", "🍓", (222, 44, 72)),
    Flavour("Green Tea", "녹차", "🍵", (104, 150, 76)),
    Flavour("Coconut", "코코넛", "🥥", (126, 110, 96)),
    Flavour("Corn", "옥수수", "🌽", (242, 196, 40)),
)
SAVOURY = (
    Flavour("Shrimp", "새우", "🦐", (240, 110, 84)),
    Flavour("Hot Pepper", "매운고추", "🌶", (206, 28, 36)),
    Flavour("Corn", "옥수수", "🌽", (242, 196, 40)),
    Flavour("Cheese", "치즈", "🧀", (250, 184, 40)),
    Flavour("Garlic", "마늘", "🧄", (176, 160, 150)),
    Flavour("Mushroom", "버섯", "🍄", (176, 70, 66)),
    Flavour("Beef", "소고기", "🥩", (160, 50, 62)),
    Flavour("Chicken", "닭고기", "🍗", (202, 128, 62)),
    Flavour("Crab", "게살", "🦀", (222, 58, 48)),
    Flavour("Tomato", "토마토", "🍅", (220, 50, 44)),
    Flavour("Broccoli", "브로콜리", "🥦", (82, 146, 66)),
    Flavour("Carrot", "당근", "🥕", (244, 136, 42)),
    Flavour("Squid", "오징어", "🦑", (196, 96, 130)),
)


Package = tuple[str, str]  # (shape, form), see shapes.FORMS
SIZES = ("small", "regular", "large")
AMOUNTS = {"small": 0.6, "regular": 1.0, "large": 1.6}  # of the regular amount


class ProductKind(NamedTuple):
    english: str
    korean: str
    emoji: str
    amount: int  # of the regular size
    unit: str
    flavours: tuple[Flavour, ...]
    packages: tuple[Package, ...]


TALL, WIDE, DRINK, FOOD = ("box", "tall"), ("box", "wide"), ("can", "drink"), ("can", "food")
BOTTLE, JAR = ("bottle", "drink"), ("bottle", "sauce")
BAG, STANDING = ("pouch", "pillow"), ("pouch", "standing")
BOWL, POT = ("cup", "bowl"), ("cup", "pot")
GABLE = ("carton", "milk")
KINDS = (
    ProductKind("Cereal", "시리얼", "🥣", 420, "g", SWEET, (TALL, BAG)),
    ProductKind("Cookies", "쿠키", "🍪", 160, "g", SWEET, (TALL, WIDE, BAG)),
    ProductKind("Crackers", "크래커", "🍘", 130, "g", SAVOURY, (TALL, BAG)),
    ProductKind("Pancake Mix", "팬케이크 가루", "🥞", 500, "g", FRUIT, (TALL, STANDING)),
    ProductKind("Soda", "소다", "🥤", 355, "ml", FRUIT, (DRINK, BOTTLE)),
    ProductKind("Juice", "주스", "🧃", 340, "ml", FRUIT, (BOTTLE, GABLE, DRINK)),
    ProductKind("Latte", "라떼", "☕", 240, "ml", SWEET, (DRINK, POT, GABLE)),
    ProductKind("Curry", "카레", "🍛", 200, "g", SAVOURY, (WIDE, STANDING)),
    ProductKind("Dumplings", "만두", "🥟", 450, "g", SAVOURY, (BAG, WIDE)),
    ProductKind("Cake Bites", "한입케이크", "🍰", 180, "g", FRUIT, (WIDE, BAG)),
    ProductKind("Fried Rice", "볶음밥", "🍚", 270, "g", SAVOURY, (STANDING, WIDE, BOWL)),
    ProductKind("Soup", "수프", "🍲", 400, "g", SAVOURY, (FOOD, BOWL, STANDING)),
    ProductKind("Stew", "찌개", "🥘", 380, "g", SAVOURY, (STANDING, FOOD)),
    ProductKind("Pudding", "푸딩", "🍮", 300, "g", FRUIT, (POT, FOOD)),
    ProductKind("Yogurt", "요거트", "🍨", 150, "g", FRUIT, (POT, BOTTLE, GABLE)),
    ProductKind("Milk", "우유", "🐄", 480, "ml", SWEET, (GABLE, BOTTLE)),
    ProductKind("Noodles", "라면", "🍜", 120, "g", SAVOURY, (BOWL, BAG)),
    ProductKind("Chips", "칩", "🍟", 90, "g", SAVOURY, (BAG, TALL)),
    ProductKind("Sauce", "소스", "🥫", 310, "g", SAVOURY, (JAR, STANDING)),
    ProductKind("Syrup", "시럽", "🧇", 280, "ml", FRUIT, (JAR, STANDING)),
    ProductKind("Tea", "차", "🍵", 500, "ml", FRUIT, (BOTTLE, TALL)),
    ProductKind("Porridge", "죽", "🥄", 285, "g", SAVOURY, (BOWL, STANDING, FOOD)),
)
# Packages of successive lines, so that a short list of products has every shape.
SHELVES: tuple[Package, ...] = (
    TALL, DRINK, BOTTLE, BAG, BOWL, GABLE, WIDE, FOOD, JAR, STANDING, POT, GABLE,
)  # fmt: skip
SERIES = (
    ("Classic", "클래식"), ("Golden", "황금"), ("Real", "진짜"), ("Daily", "매일"),
    ("Deep", "진한"), ("Little", "작은"), ("Fresh", "산뜻"), ("Village", "시골"),
    ("Moonlight", "달빛"), ("Royal", "로얄"),
)  # fmt: skip
BRANDS = (
    ("NARUBI", "나루비"), ("OKSOLEE", "옥솔이"), ("DALMUREN", "달무렌"), ("TOBARIN", "토바린"),
    ("MIRUENA", "미루에나"), ("HASOOLA", "하술라"), ("PODONGI", "포동이"), ("SEBYEOL", "세별"),
    ("KONGMARU", "콩마루"), ("YEORUM", "여룸"), ("GARAMTO", "가람토"), ("BOMDURE", "봄두레"),
    ("JANDIE", "잔디에"), ("NOEULPO", "노을포"), ("SANSUYA", "산수야"), ("ARAMBI", "아람비"),
    ("DURUMAE", "두루매"), ("CHORONGA", "초롱가"), ("MOKHWARA", "목화라"), ("PIEUNSAE", "피은새"),
    ("TTORIM", "또림"), ("BARAMGOL", "바람골"), ("NABIRO", "나비로"), ("SOLBATH", "솔밭들"),
)  # fmt: skip
# One for each brand.
BASES: tuple[Colour, ...] = (
    (196, 32, 44), (18, 82, 160), (20, 118, 84), (240, 180, 32), (98, 52, 132), (230, 104, 32),
    (36, 44, 66), (16, 142, 160), (206, 70, 128), (122, 76, 46), (112, 158, 46), (60, 120, 200),
    (10, 48, 40), (104, 20, 36), (170, 150, 96), (150, 110, 190), (238, 140, 140), (120, 196, 206),
    (84, 92, 104), (64, 40, 160), (176, 200, 96), (12, 20, 120), (170, 92, 90), (60, 84, 30),
)  # fmt: skip
