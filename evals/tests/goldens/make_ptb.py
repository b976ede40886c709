"""Writes ptb.json.gz: captions with the tokens of the real CoreNLP 3.4.1 (pip install pycocoevalcap==1.2, and a Java).

The captions are one file to the tokeniser, as pycocoevalcap writes it. Letters with a lower case are those of Unicode 3.2, so
that tables of different years agree. Left out are line breaks other than "\\n", which move captions to other images in the
original, and capital sigma in all but one word: Java looks for the end of a word in its own way.
"""

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pycocoevalcap.tokenizer.ptbtokenizer as ptb

JAR = Path(ptb.__file__).with_name(ptb.STANFORD_CORENLP_3_4_1_JAR)
rng = random.Random(341)
BREAKS = "\r\x0b\x0c\u2028\u2029"

WORDS = """a A the The an An man dog dogs person's boys' child isn't don't can't won't cannot Cannot CANNOT gonna Gotta lemme gimme wanna
'twas 'Twas 'tis o'clock O'Brien d'Artagnan l'eau J'ai y'all Y'know 'em 'n' rock'n'roll 'til 'till '90s '99 'cause cont'd cont'd. nor'easter c'mon
ev'ry li'l nat'l Dunkin' somethin' ol' he'll she'd we've they're I'm it's it’s isn’t can`t can’t ‘quote’ “double” "plain" 'single' ``tex''
«guillemets» ‹single› „low“ ‚low‘ &apos;s dog&apos;s don&apos;t DON&APOS;T &quot;q&quot; AT&T A&amp;B AT&AMP;T R&D A+B &amp; &AMP; &lt;b&gt; &nbsp; &mdash; &ndash; &MD; &eacute;
caf&eacute; &auml;rger &#39; &#8217; &HT; &odq; 1/2 3/4 1-1/2 1\\/2 ½ ¼ ¾ ⅓ ⅔ ⅛ 10:30 3.5-cm T2/T3 and/or t-spine well-known co-ed pro-life anti-war half-a-dozen
1,000.5 -5 +5 +1.5 .5 5. ,5 1,2,3 12/25/2009 1-2-99 2009-10-11 555-1234 (555) 555-1234 555.123.4567 +1 650 555 1234 $5 US$5 $ 5% 50%, £5 €5 ¢ ¥ #1 #tag @user C# c++ F#
http://a.b/c?d=e&f#g https://x.org. www.example.com example.com/a.b foo.org bar@baz.com <x@y.z> file.txt image.jpg, a.b.c.pdf index.html. mailto:a@b
Mr. mr. Mrs. Dr. dr. Prof. St. Ave. Jr. Sr. Inc. Co. co. ltd. Corp. Ltd. pty. Pty. etc. etc al. vs. vs v. No. no. nos. fig. Fig. figs. art. pp. op. ca. Prop. Jan. Feb. Sept.
Mon. Tues. Calif. Ill. ill. Miss. miss. Mass. mass. Wash. wash. La. la. Tex. Ore. ore. Del. Az. U.S. u.s. U.K. U.S.A. U.N a.m. p.m. a.m p.m. e.g. i.e. e.g i.e Ph.D. Ed.D. M.D. C.
I. J. x. X-ray non-U.S. U.S.-U.K. Canada-U.S. a.k.a. a.k.a cf. S&P-500 S&amp;P-500 S&Ls C.D.s Cap'n c'est bldg. Bldg. Blvd. dept. Dept. approx. Mtg. mtg. Natl. Elec.
( ) [ ] { } < > (a) [x] {y} -LRB- -rrb- << >> :) :-) ;) :( =D :-P <3 :o) ^_^ ^.^ (^_^) (-_-) (>.<) :'( 8) =] :@ <.[^x=<>]
- -- --- ---- ----- – — ― _ __ a_b . .. ... .... ..... ...... . . . . . . . … ! ? ?! !!! , ; : / \\ | ~ ^ = == * ** \\* @ # ## % & + ° ² x² H₂O ⁵ ₅ § ¶ † • · ¡hola! ¿qué? © ® ™ ← ∀ ★ ☺ 🙂 👍 😀.com
soft\u00adhyphen \u00ad can\u00adnot 1\u00ad2 zero\u200bwidth nb\u00a0sp thin\u2009sp \u3000 naïve Straße ΣΊΣΥΦΟΣ İstanbul ıssız ﬁn Ünïcödé Ελλάδα Россия עברית العربية हिन्दी ไทย 中文 日本語。 한국어
٣٫٥ ٣٬٠ १२३ 、 。 ・ ｆｕｌｌ ＃ ￥ 𠀀 𝒳 Ⅷ ⓐ K ſ ǅ İ <b> </b> <br/> <br /> <a href="x"> <a href='y z'> <!-- c --> <?xml v?> <STORYID cat="w" pri="u"> <1> <a b=c>
S'mores diff'rent m'lord qu'est rec'd Shi'ite ha'penny n't N'T n’t 's 'S 're 'LL ’ve ' " ` '' `` &quot;a "a "1 "$ 'ab 'a 'A1""".split()
# Words with a rule of their own, and some that have none; each in all places below.
LISTED = """jan feb mar apr may jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun ala ariz Az az Ark ark calif colo conn ct dak Del del fla ga Ill
ill ind kan kans ky La la Mass mass md mich minn Miss miss mo mont neb nev okla Ore ore Pa pa penn tenn Tex tex va vt Wash wash wis wisc wyo inc co cos corp ltd plc rt bancorp
bhd assn univ intl sys pte ptes pty ptys ppte ppty tel est ext sq jr bros ed.d ph.d esq blvd rd sr bldg etc al seq mr mrs ms mx dr drs prof profs sen sens rep reps atty attys lt
col gen messrs gov govs adm rev maj sgt cpl pvt capt st ste ave pres lieut hon brig comdr cmdr pfc spc supt supts det mt ft adj adv asst assoc ens insp mlle mme msgr sfc dept vs
alex wm jos cie a.k.a cf treas ph invt elec natl mtg mfg ca fig figs prop no nos art arts sec sect pp op approx para U.S a u.s.a Canada-U.S Sino-U.S non-U.S U.S.-U.K U.S.-U.S.S.R
EU-U.S Japan-U.S Korean-U.S China-U.S x dog""".split()
PLACES = ["{}", "{}.", "{}. The x", "{}. the x", "{}. 5 x", "{}.5", "{}, x", "{}., x", "{} x", "{}.\u00a0 X", "{}. ltd", "{}. <b> x"]
OPENERS = """About According Additionally After An A As At But Did During Earlier He Her Here How However If In It Last Many More Mr. Ms. Now Once One Other Our She Since So
Some Such That The Their Then There These They This We When While What Who Why Yet You Dog the""".split()
SUFFIXES = "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar txt wav x xml zip zzz".split()
SPACES = [" "] * 30 + ["  ", "\t", "\u00a0", "\u2009", "\u3000", "", "", "", "\n", "\x85"]
JOINERS = [".", ",", ";", ":", "-", "/", "'", "’", "&", "!", "?", "_", "@", "#", "$", "%", "(", ")", '"', "<", ">", "=", "\\", "*", "\u00ad"]
FILLERS = "".join(c for c in map(chr, range(1, 0x3100)) if c not in BREAKS and unicodedata.category(c) not in ("Cs", "Cn"))


def settled(c):
    """Whether tables of different years agree on the lower case of the character."""
    return c in unicodedata.ucd_3_2_0.normalize("NFC", c) and unicodedata.ucd_3_2_0.category(c) != "Cn" or c.lower() == c


def token():
    kind = rng.random()
    if kind < 0.62:
        return rng.choice(WORDS)
    if kind < 0.78:
        return rng.choice(WORDS) + rng.choice(JOINERS) + rng.choice(WORDS + JOINERS)
    if kind < 0.86:
        word = rng.choice(WORDS)
        return word.upper() if rng.random() < 0.5 else word.capitalize()
    if kind < 0.94:
        return "".join(rng.choice(".,-'’0129aAdnstIS&;:/(\"@<>#$!?*=_ \u00ad\u0660") for _ in range(rng.randint(1, 8)))
    return "".join(rng.choice(FILLERS) if rng.random() < 0.8 else chr(rng.randrange(0x10000, 0x2FA20)) for _ in range(rng.randint(1, 4)))


def caption():
    if rng.random() < 0.02:
        return rng.choice(["", " ", ".", "\n", "\u00a0", "'90", "C.", "\u0000"])
    text = "".join(token() + rng.choice(SPACES) for _ in range(rng.randint(1, 10)))
    if rng.random() < 0.3:
        text = text.rstrip() + rng.choice([".", " .", "!", "?", " C.", " U.S.", " etc.", " no.", " fig.", " Inc.", " '90", " e.g.", " p.m."])
    text = "".join(c for c in text if settled(c) and c not in BREAKS)
    return re.sub(r"\S+", lambda m: m[0] if m[0] == "ΣΊΣΥΦΟΣ" else m[0].replace("Σ", "Λ"), text)


def listed():
    """Every listed word in every place, in its own case, and now and then in another."""
    for word in LISTED:
        for place in PLACES:
            change = rng.choice([str, str, str.upper, str.capitalize, str.lower])
            yield place.format(change(word))
    for opener in OPENERS:
        yield from (f"vitamin C. {opener} x", f"in the U.S. {opener} x", f"c. {opener}")
    for suffix in SUFFIXES:
        yield from (f"a.b.{suffix} x", f"1{suffix}.{suffix}. x", f"é.{suffix.upper()}, x")


def tokenise(captions):
    """The lines that the program prints for captions in one file."""
    text = "\n".join(c.replace("\n", " ") for c in captions)
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(text.encode())
        file.flush()
        command = ["java", "-cp", str(JAR), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", file.name]
        out = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    lines = out.split("\n")
    assert len(lines) in (len(captions), len(captions) + 1), (len(lines), len(captions))
    return lines[: len(captions)]


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 6000
    captions = [*listed(), *(caption() for _ in range(count))]
    rows = [[c, line] for c, line in zip(captions, tokenise(captions))]
    # The same text at the end of a file, where no line break follows.
    alone = [[c, tokenise([c])[0]] for c in ["'90", "the '90", "vitamin C.", "no.", "a.txt", "etc.", "Mr.", "U.S.", "e.g", "don't", "x 's"]]
    sections = {"captions": rows, "alone": alone, "dropped": ptb.PUNCTUATIONS}
    text = ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in v) + "\n]" for k, v in sections.items())
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("ptb.json.gz")).write_bytes(gzip.compress(("{" + text + "}\n").encode(), mtime=0))


if __name__ == "__main__":
    main()
