"""Writes a synthetic set as JSON lines {"text","kind","start","end"} (kind null: nothing to find), seed fixed:
    tests/pii/make_set.py >set.jsonl
Every value is made up here; cards, IBANs and routing numbers get their check digits."""
import json
import random

R = random.Random(20261121)


def digits(n):
    return "".join(R.choice("0123456789") for _ in range(n))


def luhn(prefix, length):
    body = prefix + digits(length - len(prefix) - 1)
    for c in "0123456789":
        if sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(reversed(body + c))) % 10 == 0:
            return body + c


def card():
    n = luhn(R.choice(["4", "51", "55", "6011"]), 16)
    return R.choice([n, " ".join(n[i:i + 4] for i in range(0, 16, 4)), "-".join(n[i:i + 4] for i in range(0, 16, 4)), luhn("37", 15)])


def iban():
    cc, body = R.choice([("DE", digits(18)), ("GB", "WEST" + digits(14)), ("FR", digits(23)), ("NL", "ABNA" + digits(10))])
    check = 98 - int("".join(str(int(c, 36)) for c in body + cc + "00")) % 97
    s = "%s%02d%s" % (cc, check, body)
    return R.choice([s, " ".join(s[i:i + 4] for i in range(0, len(s), 4))])


def routing():
    while True:
        s = "%02d" % R.choice([1, 2, 6, 7, 11, 12, 21, 26, 31, 32]) + digits(7)
        if sum(int(c) * w for c, w in zip(s, (3, 7, 1) * 3)) % 10 == 0:
            return s


def phone():
    n = (R.choice("23456789") + R.choice("012345678") + R.choice("23456789"), R.choice("23456789") + digits(2), digits(4))
    return R.choice(["(%s) %s-%s", "%s-%s-%s", "%s.%s.%s", "+1 %s %s %s", "+1-%s-%s-%s"]) % n


def word(n, alphabet="abcdefghijklmnopqrstuvwxyz"):
    return "".join(R.choice(alphabet) for _ in range(n))


NAMES = "Maple Oak Washington Lincoln Park Cedar Hill Elm Lake Church Mill River".split()
KINDS = {
    "email": lambda: "%s.%s@%s.%s" % (word(5), word(6), word(7), R.choice(["com", "org", "co.uk", "io", "de"])),
    "phone": phone,
    "us_ssn": lambda: "%03d-%02d-%04d" % (R.choice([R.randint(1, 665), R.randint(667, 899)]), R.randint(1, 99), R.randint(1, 9999)),
    "us_itin": lambda: "9%s-%02d-%s" % (digits(2), R.choice([*range(50, 66), *range(70, 89)]), digits(4)),
    "credit_card": card, "iban": iban, "us_routing": routing,
    "passport": lambda: R.choice([word(1, "ABCDEFGHJK") + digits(8), digits(9)]),
    "driving_licence": lambda: word(1, "ABCDEFGHIJKLMN") + digits(R.choice([7, 8, 12])),
    "ip_address": lambda: R.choice([".".join(str(R.randint(1, 126)) for _ in range(4)),
                                    "2001:db8:%s:%s::%s" % (word(4, "1234567890abcdef").lstrip("0") or "1", "1f", "7334")]),
    "mac_address": lambda: R.choice(":-").join("%02x" % b for b in [R.randint(0xa0, 0xff)] + [R.randint(0, 255) for _ in range(5)]),
    "birth_date": lambda: R.choice(["%02d/%02d/%d" % (R.randint(1, 12), R.randint(1, 28), R.randint(1930, 2015)),
                                    "%d-%02d-%02d" % (R.randint(1930, 2015), R.randint(1, 12), R.randint(1, 28)),
                                    "%s %d, %d" % (R.choice(["March", "May", "Oct"]), R.randint(1, 28), R.randint(1930, 2015))]),
    "street_address": lambda: "%d %s %s" % (R.randint(1, 1800), R.choice(NAMES), R.choice(["Street", "Ave", "Road", "Drive", "Lane", "Blvd"])),
    "crypto_wallet": lambda: R.choice(["0x" + word(40, "0123456789abcdef"), "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
                                       "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]),
    "api_key": lambda: R.choice(["AKIA" + word(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), "ghp_" + word(36, "abcXYZ0123456789"),
                                 "sk-" + "aA1" + word(45, "abcdefXYZW0123456789"), "AIza" + word(35, "abcdefXYZW0123456789")]),
    "private_key": lambda: "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----" % word(64, "abcXYZ0123456789+/"),
}
PLAIN = ["Please note %s for later.", "We have %s on file.", "%s was in the report", "(%s)", "It said: %s, and more."]
NEEDED = {
    "us_routing": ["The routing number is %s.", "%s is our bank's ABA number", "wire to routing %s today"],
    "passport": ["Passport no. %s expires soon", "%s is the number of my passport", "her passport (%s)"],
    "driving_licence": ["driver's license %s", "Driving licence: %s.", "%s is on her driver's license"],
    "birth_date": ["born on %s in Ohio", "DOB: %s", "Date of birth is %s.", "%s is his birthday"],
}
NEGATIVE = [
    lambda: "Order %s shipped" % digits(R.choice([6, 8, 11, 14])), lambda: "commit %s" % word(40, "0123456789abcdef"),
    lambda: "version %d.%d.%d.%d is out" % tuple(R.randint(0, 99) for _ in range(4)),
    lambda: "at 2026-%02d-%02dT%02d:12:59Z" % (R.randint(1, 12), R.randint(1, 28), R.randint(0, 23)),
    lambda: "ISBN 978-%d-%s-%s-%d" % (R.randint(0, 9), digits(3), digits(5), R.randint(0, 9)),
    lambda: "epoch 17%s and 17%s ms" % (digits(8), digits(11)), lambda: "part %s-%s-%s" % (digits(4), digits(3), word(2, "ABC")),
    lambda: "%s.%s, -%s.%s" % (digits(2), digits(4), digits(2), digits(4)), lambda: "total $%s,%s.%s" % (digits(3), digits(3), digits(2)),
    lambda: "SKU %s-%s" % (word(3, "ABCDEF"), digits(5)), lambda: "[%s:%s:%s] took %s ms" % ("12", "34", "56", digits(3)),
    lambda: "uuid %s-%s-%s-%s-%s" % tuple(word(n, "0123456789abcdef") for n in (8, 4, 4, 4, 12)),
    lambda: "The %s of the %s is %s." % (word(6), word(8), word(5)), lambda: "ticket %s" % digits(9),
]
for kind, make in KINDS.items():
    for _ in range(200):
        value, template = make(), R.choice(NEEDED.get(kind, PLAIN))
        at = template.index("%s")
        print(json.dumps({"text": template % value, "kind": kind, "start": at, "end": at + len(value)}))
for make in NEGATIVE:
    for _ in range(200):
        print(json.dumps({"text": make(), "kind": None}))
