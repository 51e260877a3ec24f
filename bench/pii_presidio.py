"""Precision and recall of `embedd pii` and of Microsoft Presidio's pattern recognisers, kind by kind, side by side: on the
synthetic set of tests/pii/make_set.py and on the hand-written cases of tests/pii/hard.txt.

    python3 -m venv build/presidio-venv && build/presidio-venv/bin/pip install presidio-analyzer
    EMBEDD=build/embedd build/presidio-venv/bin/python bench/pii_presidio.py [--json]

Presidio is used without a model of names, which the kinds compared here do not need. Two columns are its: every finding,
whatever its score (its default); and those of 0.4 and more after its context enhancer, which reads the words of spaCy's
blank English tokeniser. Of its findings that overlap the best score stays, as its anonymiser does; of equal ones the longer, and of those that
are equal in that too the right one, if one of them is right. A finding counts where
it overlaps what is marked and is of its kind; any other finding of a kind that the column is compared in is false. Kinds
that Presidio has no recogniser for are compared for embedd alone."""
import collections
import json
import os
import subprocess
import sys

import spacy
import tldextract.tldextract
from presidio_analyzer import predefined_recognizers as p
from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KINDS = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "US_SSN": "us_ssn", "US_ITIN": "us_itin",
         "CREDIT_CARD": "credit_card", "IBAN_CODE": "iban", "ABA_ROUTING_NUMBER": "us_routing", "US_PASSPORT": "passport",
         "UK_PASSPORT": "passport", "US_DRIVER_LICENSE": "driving_licence", "UK_DRIVING_LICENCE": "driving_licence",
         "IP_ADDRESS": "ip_address", "MAC_ADDRESS": "mac_address", "CRYPTO": "crypto_wallet"}
RECOGNISERS = [r() for r in (p.EmailRecognizer, p.PhoneRecognizer, p.UsSsnRecognizer, p.UsItinRecognizer,
                             p.CreditCardRecognizer, p.IbanRecognizer, p.AbaRoutingRecognizer, p.UsPassportRecognizer,
                             p.UkPassportRecognizer, p.UsLicenseRecognizer, p.UkDrivingLicenceRecognizer, p.IpRecognizer,
                             p.MacAddressRecognizer, p.CryptoRecognizer)]
tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())  # its own copy; no network
TOKENS, ENHANCER = spacy.blank("en"), LemmaContextAwareEnhancer()


class Words:
    """The little of an NLP engine that the enhancer asks for."""

    def is_stopword(self, word, language):
        return TOKENS.vocab[word].is_stop

    def is_punct(self, word, language):
        return TOKENS.vocab[word].is_punct


def artifacts(text):
    doc = TOKENS(text)
    return NlpArtifacts(entities=[], tokens=doc, tokens_indices=[t.idx for t in doc], lemmas=[t.lower_ for t in doc],
                        nlp_engine=Words(), language="en")


def best(results, right):
    """Without overlaps: the higher score, then the longer, then the right kind."""
    kept = []
    for r in sorted(results, key=lambda r: (-r.score, r.start - r.end, KINDS[r.entity_type] != right)):
        if all(r.end <= k.start or r.start >= k.end for k in kept):
            kept.append(r)
    return kept


def presidio(rows, context, threshold):
    answers = []
    for row in rows:
        text = row["text"]
        words = artifacts(text) if context else None
        results = [r for recogniser in RECOGNISERS
                   for r in recogniser.analyze(text, recogniser.supported_entities, words) or [] if r.entity_type in KINDS]
        if context:
            results = ENHANCER.enhance_using_context(text, results, words, RECOGNISERS)
        at = lambda i: len(text[:i].encode())
        answers.append([(KINDS[r.entity_type], at(r.start), at(r.end)) for r in best(results, row["kind"]) if r.score >= threshold])
    return answers


def embedd(rows):
    lines = "".join(json.dumps({"text": r["text"]}) + "\n" for r in rows)
    out = subprocess.run([os.environ.get("EMBEDD", os.path.join(ROOT, "build", "embedd")), "pii", "--format", "json",
                          "--input-format", "jsonl"], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [[(f["kind"], f["offset"], f["offset"] + f["length"]) for f in json.loads(line)["findings"]]
            for line in out.splitlines()]


def marked(row):
    if "spans" in row:
        return [(row["kind"], *span) for span in row["spans"]]
    return [(row["kind"], row["start"], row["end"])] if row["kind"] else []


def score(rows, answers):
    """By kind: found, missed, false."""
    assert len(rows) == len(answers)
    counts = collections.defaultdict(lambda: [0, 0, 0])
    overlaps = lambda a, b: a[0] == b[0] and a[1] < b[2] and b[1] < a[2]
    for row, got in zip(rows, answers):
        wanted = marked(row)
        for w in wanted:
            counts[w[0]][0 if any(overlaps(w, g) for g in got) else 1] += 1
        for g in got:
            counts[g[0]][2] += not any(overlaps(w, g) for w in wanted)
    return counts


def total(counts, kinds):
    return [sum(counts[k][i] for k in kinds) for i in range(3)]


def cells(count):
    found, missed, false = count
    precision = "%9.3f" % (found / (found + false)) if found + false else "        -"
    recall = "%7.3f" % (found / (found + missed)) if found + missed else "      -"
    return precision + recall + "%6d" % false


def compare(title, rows):
    columns = {"embedd": score(rows, embedd(rows)), "presidio": score(rows, presidio(rows, False, 0.0)),
               "presidio, context, 0.4": score(rows, presidio(rows, True, 0.4))}
    kinds = sorted({k for c in columns.values() for k in c})
    shared = [k for k in kinds if k in KINDS.values()]
    if "--json" in sys.argv:
        print(json.dumps({"set": title, "texts": len(rows),
                          **{name: {k: dict(zip(("found", "missed", "false"), c[k])) for k in kinds if k in c}
                             for name, c in columns.items()}}))
        return
    print("%s: %d texts, %d without anything to find" % (title, len(rows), sum(not marked(r) for r in rows)))
    print("%-24s%s" % ("", "".join("%24s" % name for name in columns)))
    print("%-26s%s" % ("kind", "precision recall false  " * len(columns)))
    for kind in kinds:
        print("%-24s%s" % (kind, "".join("  " + (cells(c[kind]) if name == "embedd" or kind in shared else " " * 8 + "-" + " " * 13)
                                         for name, c in columns.items())))
    print("%-24s%s" % ("all that both know", "".join("  " + cells(total(c, shared)) for c in columns.values())))
    print()


def made(script):
    out = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "pii", script)], stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


if __name__ == "__main__":
    compare("synthetic (tests/pii/make_set.py)", made("make_set.py"))
    compare("by hand (tests/pii/hard.txt)", made("hard.py"))
