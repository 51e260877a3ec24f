"""Texts for comparing tokenizers: many languages, code, emoji, marks, control characters, broken bytes.

    texts = list(tokenizer_texts.corpus(lines=100_000, seed=1))

The same arguments give the same texts with the same Python. Nothing is read but Python's own library
(as code) and, where given, a text file (as English prose).
"""
import glob
import os
import random
import sysconfig
import unicodedata

# Article 1 of the Universal Declaration of Human Rights, or a plain sentence, in as many scripts as possible.
SENTENCES = [
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt; Straße, Größe.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Cómo estás? ¡Mañana será otro día!",
    "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Não há coração que não chore.",
    "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Perché no? È così.",
    "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Het ĳs is koud, coördinatie.",
    "Alla människor är födda fria och lika i värde och rättigheter. Åäö, smörgåsbord på ön.",
    "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter. Blåbærsyltetøy, Ærø.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Hyvää yötä, äiti!",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Árvíztűrő tükörfúrógép.",
    "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Țară, pâine, mulțumesc.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ılık IŞIK, İyi günler.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Tiếng Việt rất hay.",
    "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Selamat pagi!",
    "Binadamu wote wamezaliwa huru, hadhi na haki zao ni sawa. Habari za asubuhi, rafiki yangu.",
    "Gbogbo ènìyàn ni a bí ní òmìnira; iyì àti ẹ̀tọ́ kọ̀ọ̀kan sì dọ́gba. Ẹ kú àárọ̀.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах. Съешь ещё этих мягких булок, Йод.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах. Ґанок, їжак, єнот.",
    "Всички хора се раждат свободни и равни по достойнство и права. Нещо на Български.",
    "Сва људска бића рађају се слободна и једнака у достојанству и правима. Љубав, њега, ђак.",
    "Барлық адамдар тумысынан азат және қадір-қасиеті мен құқықтары тең болып дүниеге келеді. Әлем, өмір.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. ΟΔΥΣΣΕΥΣ ᾳ ᾧ ΰ.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։ Եւ և։",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. ᲗᲑᲘᲚᲘᲡᲘ",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עֲלֵיכֶם",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. السَّلَامُ عَلَيْكُمْ، كيف حالك؟",
    "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. ۱۲۳۴",
    "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔ شکریہ",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। क़िला, ज़रूर",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ড়ঢ়য় কো কৌ",
    "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ। ਖ਼ਾਲਸਾ",
    "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும் சமமானவர்கள். கொ கோ கௌ",
    "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు. కై",
    "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ. ಹಾಗೂ ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ. ಕೋ",
    "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചവരാണ്. കൊ",
    "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ගරුත්වයෙන් හා අයිතිවාසිකම්වලින් සමාන වෙති. කෝ",
    "มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ น้ำตา ๑๒๓ ฯ",
    "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບແລະຄວາມສະເໝີພາບເທົ່າທຽມກັນ. ນ້ຳ",
    "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ မွေးဖွားလာသူများ ဖြစ်သည်။",
    "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព ក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។ កាន់តែពិសេសអាចខលចេញ",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。2024年5月，GPT模型",
    "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。「繁體」",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。ガギグゲゴ ｶﾞｷﾞｸﾞ パピプ",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한국어 띄어쓰기, 뷁",
    "ཤེས་རིག་ལྡན་པའི་མི་རྣམས་སྐྱེས་ཙམ་ཉིད་ནས་རང་དབང་ཡོད། ༄༅། །",
    "Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй байдаг. ᠮᠣᠩᠭᠣᠯ",
    "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። ፩፪፫",
    "ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ. ꮳꮃꭹ",
    "Kāi tāngata katoa e whānau mai ana me te mana tōrite. Ā ē ī ō ū Ǟ ǟ ṩ ẛ̣ ḍ̇",
]

MARKS = [c for c in range(0x300, 0x370)] + [0x483, 0x591, 0x5B0, 0x5BF, 0x610, 0x64B, 0x651, 0x670, 0x6D6, 0x711,
    0x900, 0x93C, 0x94D, 0x9BC, 0xA3C, 0xB3C, 0xD4D, 0xE38, 0xE48, 0xEB8, 0xEC8, 0xF18, 0xF71, 0xF72, 0xF74,
    0x1037, 0x135F, 0x1714, 0x17D2, 0x18A9, 0x1939, 0x1A17, 0x1AB0, 0x1BAA, 0x1DC0, 0x1DFF, 0x20D0, 0x20DD,
    0x20EF, 0x302A, 0x302E, 0x302F, 0x3099, 0x309A, 0xA66F, 0xFB1E, 0xFE20, 0xFE2F, 0x1D165, 0x1D166, 0x1D167,
    0x1D16D, 0x1D172, 0x1D17B, 0x1E000, 0x1E8D0, 0x1E94A, 0x16FF0, 0x16FF1, 0x11F41, 0x1DFA]
EMOJI = "😀 😂 ❤️ 👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇯🇵 1️⃣ #️⃣ ☕️ ⌚ ✈ 🦙 🫠 🧑🏿‍🚀 🤷🏻‍♀️ 🔟 ©️ ®™ ♻ ㊗️ 🈚️ 🕵️‍♂️ 🧜🏾‍♂️ 🪿 🫨".split()
SPECIAL = ["[MASK]", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[mask]", "[MASK", "MASK]", "[[MASK]]", "<s>", "</s>",
    "<mask>", " <mask> ", "<unk>", "<UNK>", "<Unk>", "<pad>", "≮unk>", "<ünk>", "<unk", "<\u00adunk>", "##ing", "##",
    "\u3000<mask>\u3000", "<mask>  ", "\t<mask>", "[CLS][SEP]", "<s><s>", "a<s>b"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u200b", "\u0085", "\x0b", "\x0c", "\u1680", "\u180e"]


def code_lines():
    """Lines of Python's own library."""
    lines = []
    for path in sorted(glob.glob(os.path.join(sysconfig.get_paths()["stdlib"], "[a-p]*.py"))):
        with open(path, encoding="utf-8", errors="replace") as f:
            lines += [line.rstrip("\n") for line in f if line.strip()]
    return lines


def scalar(rng, below=0x110000):
    while True:
        c = rng.randrange(below)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def words(rng):
    """Words of one sentence, mixed up, some repeated, some with other spaces."""
    pool = rng.choice(SENTENCES).split()
    if rng.random() < 0.2:
        pool = pool + rng.choice(SENTENCES).split()
    picked = [rng.choice(pool) for _ in range(rng.randrange(1, 24))]
    if rng.random() < 0.2:
        picked = [w.upper() if rng.random() < 0.5 else w.title() for w in picked]
    if rng.random() < 0.3:
        form = rng.choice(["NFC", "NFD", "NFKC", "NFKD"])
        picked = [unicodedata.normalize(form, w) for w in picked]
    if rng.random() < 0.2:
        return "".join(w + rng.choice(SPACES) for w in picked)
    return " ".join(picked)


def marks(rng):
    out = []
    for _ in range(rng.randrange(1, 12)):
        out.append(rng.choice(["a", "E", "ñ", "Å", "й", "ü", "한", "カ", "か", "क", "ا", " ", "", "\u0344", "ﬁ", "ộ", "\u1e69"]))
        out += [chr(rng.choice(MARKS)) for _ in range(rng.randrange(0, 6))]
    return "".join(out)


def mixture(rng):
    parts = []
    for _ in range(rng.randrange(1, 14)):
        kind = rng.randrange(8)
        if kind == 0:
            parts.append(rng.choice(SPECIAL))
        elif kind == 1:
            parts.append(rng.choice(EMOJI))
        elif kind == 2:
            parts.append(rng.choice(SPACES))
        elif kind == 3:
            parts.append(str(rng.randrange(10 ** rng.randrange(1, 12))))
        elif kind == 4:
            parts.append(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»‹›“”„‘’…–—·•、。！？（）「」%‰°§¶†"))
        elif kind == 5:
            parts.append(chr(rng.randrange(0x20, 0x3000)))
        else:
            parts.append(rng.choice(rng.choice(SENTENCES).split()))
    return rng.choice(["", "", " "]).join(parts)


def long_words(rng):
    n = rng.choice([15, 16, 17, 31, 32, 33, 98, 99, 100, 101, 102, 130, 1000])
    letter = rng.choice(["a", "é", "語", "я", "\u0301", "e\u0301", "x-", "ab1", "한"])
    return (letter * n)[:n] + rng.choice(["", " end", ".", letter])


def corpus(lines, seed=1, prose=None):
    """Yields `lines` texts of all kinds."""
    rng = random.Random(seed)
    code = code_lines()
    english = []
    if prose and os.path.exists(prose):
        with open(prose, encoding="utf-8", errors="replace") as f:
            english = [p.rstrip("\n") for p in f if p.strip()]
    yield from SENTENCES
    yield from ["", " ", "\n", "\t\r\n ", "a", "A", ".", "\u0301", "\0", "\ufffd", "\u200d"]
    for _ in range(lines - len(SENTENCES) - 11):
        kind = rng.randrange(100)
        if kind < 22:
            yield rng.choice(english)[: rng.choice([80, 400, 4000])] if english else words(rng)
        elif kind < 50:
            yield words(rng)
        elif kind < 60:
            yield rng.choice(code)
        elif kind < 70:
            yield mixture(rng)
        elif kind < 76:
            yield " ".join(rng.choice(EMOJI) + rng.choice(["", "", "ok", "\ufe0f", "\u200d"]) for _ in range(rng.randrange(1, 9)))
        elif kind < 83:
            yield marks(rng)
        elif kind < 88:
            yield "".join(scalar(rng, rng.choice([0x100, 0x3000, 0x10000, 0x30000, 0x110000])) for _ in range(rng.randrange(1, 40)))
        elif kind < 92:
            yield rng.randbytes(rng.randrange(1, 80)).decode("utf-8", errors="replace")
        elif kind < 95:
            yield "".join(rng.choice([chr(rng.randrange(0x20)), chr(rng.randrange(0x7F, 0xA0)), "a", "B ", scalar(rng, 0x30000)]) for _ in range(rng.randrange(1, 30)))
        elif kind < 97:
            yield long_words(rng)
        else:
            block = rng.randrange(0, 0x2FF00, 0x80)
            yield "".join(c for c in (chr(block + rng.randrange(0x80)) for _ in range(rng.randrange(1, 30))) if not 0xD800 <= ord(c) < 0xE000)


def code_points(below=0x30000):
    """Every code point alone, and between letters."""
    for c in range(below):
        if not 0xD800 <= c < 0xE000:
            yield chr(c)
            yield "a" + chr(c) + "B"
