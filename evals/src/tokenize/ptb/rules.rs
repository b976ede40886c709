//! The grammar: what a token looks like. The longest match wins; of equally long ones the first rule.
//!
//! Patterns are regular expressions over the whole text, with two additions: `<name>` stands for a definition, and text
//! between acute accents, `´word´`, matches in any case. Nothing else does: the scanner tells `Miss.` from `miss.`.

/// What a match becomes. Where a rule looks ahead, the match holds what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Nothing.
    Drop,
    /// A token as it stands.
    Keep,
    /// A token without its soft hyphens.
    Word,
    /// This token instead.
    As(&'static str),
    /// Quotation marks in TeX's form, closing ones where the text does not say.
    Quote,
    /// As `Quote`, but opening ones.
    OpenQuote,
    /// `&amp;` is a plain ampersand.
    Ampersand,
    /// Spaces are hardened, so that the token stays one.
    Spaced,
    /// As `Spaced`, with its parentheses named.
    Phone,
    /// Parentheses are named.
    Smiley,
    /// Three or four of them are a dash.
    Hyphens,
    /// One character that is a fraction.
    Fraction,
    /// A currency sign as the Penn Treebank has it.
    Currency,
}

/// Where in the match the token ends, and so where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// At the end of the match.
    Whole,
    /// This many characters before the end of the match.
    Short(usize),
    /// Behind the first character.
    First,
    /// At the last apostrophe.
    Apostrophe,
    /// One letter before the last apostrophe.
    Negation,
    /// At the first white space.
    Space,
    /// Behind the first full stop.
    Stop,
    /// As `Space`; the full stop at the end is read a second time.
    StopTwice,
    /// As `StopTwice`, but a single letter gives its full stop away.
    Initial,
    /// At the end of the match; the full stop there is read a second time.
    LastStopTwice,
    /// Before the last character, or before a line feed and the carriage return in front of it.
    File,
}

/// One kind of token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) pattern: &'static str,
    pub(super) end: End,
    pub(super) action: Action,
}

const fn rule(pattern: &'static str, end: End, action: Action) -> Rule {
    Rule { pattern, end, action }
}

/// The right side of a definition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Definition {
    /// A pattern.
    Pattern(&'static str),
    /// Any of these words, in any case; a capital letter stays one.
    Words(&'static str),
}

use Action::{
    Ampersand, As, Currency, Drop, Fraction, Hyphens, Keep, OpenQuote, Phone, Quote, Smiley, Spaced, Word,
};
use Definition::{Pattern, Words};
use End::{Apostrophe, File, First, Initial, LastStopTwice, Negation, Short, Space, Stop, StopTwice, Whole};

/// Parts of the patterns; each may use those before it.
pub(super) const DEFINITIONS: &[(&str, Definition)] = &[
    ("blank", Pattern(r"[ \t\xA0\x{2000}-\x{200A}\x{3000}]")),
    ("line", Pattern(r"\r|\r?\n|[\x{2028}\x{2029}\x0B\x0C\x85]")),
    ("space", Pattern("<blank>|<line>")),
    // Letters and numbers are those of Unicode 6.3, with the letters that changed since.
    ("numeral", Pattern(r"[\p{Nd}&&\p{age:6.3}]")),
    ("digit", Pattern(r"<numeral>|[\x{7C0}-\x{7C9}]")),
    (
        "letter",
        Pattern(
            r"[[[\p{L}&&\p{age:6.3}]--[\x{19B0}-\x{19C0}\x{19C8}\x{19C9}\x{1CF2}\x{1CF3}]]\x{1885}\x{1886}]",
        ),
    ),
    ("capital", Pattern(r"[[\p{Uppercase}&&\p{age:6.3}]--[\x{13A0}-\x{13F5}]]")),
    ("alpha", Pattern("[A-Za-z]")),
    ("alnum", Pattern("[A-Za-z0-9]")),
    ("accented", Pattern("&[aeiouAEIOU](?:´acute´|´grave´|´uml´);")),
    // What may stand in a word beside letters: marks of the scripts between Latin and Lao, the soft hyphen.
    (
        "mark",
        Pattern(concat!(
            r"[\xAD\x{2C2}-\x{2C5}\x{2D2}-\x{2DF}\x{2E5}-\x{2EB}\x{2ED}\x{2EF}-\x{36F}\x{375}\x{378}\x{379}",
            r"\x{384}\x{385}\x{3F6}\x{483}-\x{487}\x{55A}-\x{55F}\x{591}-\x{5BD}\x{5BF}\x{5C1}\x{5C2}\x{5C4}",
            r"\x{5C5}\x{5C7}\x{615}-\x{61A}\x{64B}-\x{65E}\x{670}\x{6D6}-\x{6E4}\x{6E7}-\x{6ED}\x{6FD}\x{6FE}",
            r"\x{70F}\x{711}\x{730}-\x{74C}\x{7A6}-\x{7B0}\x{7EB}-\x{7F3}\x{900}-\x{903}\x{93C}",
            r"\x{93E}-\x{94E}\x{951}-\x{955}\x{962}\x{963}\x{981}-\x{983}\x{9BC}\x{9BE}-\x{9C4}\x{9C7}\x{9C8}",
            r"\x{9CB}-\x{9CD}\x{9D7}\x{9E2}\x{9E3}\x{A01}-\x{A03}\x{A3C}\x{A3E}-\x{A4F}\x{A81}-\x{A83}\x{ABC}",
            r"\x{ABE}-\x{ACF}\x{B82}\x{BBE}-\x{BC2}\x{BC6}-\x{BC8}\x{BCA}-\x{BCD}\x{C01}-\x{C03}",
            r"\x{C3E}-\x{C56}\x{D3E}-\x{D44}\x{D46}-\x{D48}\x{E31}\x{E34}-\x{E3A}\x{E47}-\x{E4E}\x{EB1}",
            r"\x{EB4}-\x{EBC}\x{EC8}-\x{ECD}]",
        )),
    ),
    ("part", Pattern("<letter>|<accented>|<mark>")),
    ("apostrophe", Pattern(r"['\x{92}\x{2019}]|´&apos;´")),
    ("tick", Pattern(r"<apostrophe>|[`\x{91}\x{2018}\x{201B}]")),
    ("hyphen", Pattern(r"[-_\x{58A}\x{2010}\x{2011}]")),
    ("pause", Pattern(r"[,;:\x{3001}]")),
    // A tag of SGML; an attribute in quotation marks may go over lines.
    ("name", Pattern(r"<alpha>[A-Za-z0-9_:.\-]*")),
    ("attribute", Pattern(r#"<name>(?: *= *(?:'[^']*'|"[^"]*"))?"#)),
    ("tag", Pattern(r"[<](?:[!?][A-Za-z\-][^>\r\n]*|<name>(?: +<attribute>)* */? *|/<name> *)[>]")),
    // Words, numbers and what is made of them.
    ("run", Pattern("<part>(?:<part>|<digit>)*")),
    ("word", Pattern(r"<run>(?:[.!?]<run>)*")),
    ("number", Pattern(r"<digit>+|<digit>*(?:[.:,\xAD\x{66B}\x{66C}]<digit>+)+")),
    ("day", Pattern("<digit>{1,2}")),
    ("four", Pattern("<digit>{1,4}")),
    ("either", Pattern("<letter>|<numeral>")),
    ("link", Pattern("(?:[dDoOlL]<tick><either>)?<either>+")),
    ("joined", Pattern("<link>(?:<hyphen><link>)*")),
    ("firm", Pattern("[A-Z]+(?:(?:[+&]|´&amp;´)[A-Z]+)+")),
    ("option", Pattern("<alnum>+(?:-<alpha>+){0,2}")),
    ("union", Pattern("(?:´canada´|´sino´|´korean´|´eu´|´japan´|´non´)´-u.s´|´u.s.-u.k´|´u.s.-u.s.s.r´")),
    ("initials", Pattern(r"<alpha>(?:\.<alpha>)*|<union>")),
    ("acronym", Pattern(r"<alpha>(?:\.<alpha>)+|<union>")),
    ("compound", Pattern(r"<alnum>[A-Za-z0-9.,\xAD]*(?:-(?:[A-Za-z0-9\xAD]+|<acronym>\.))+")),
    ("clitic", Pattern("<apostrophe>(?:[msdMSD]|´re´|´ve´|´ll´)")),
    ("not", Pattern("´n´<tick>´t´")),
    // Words with an apostrophe that stay whole.
    ("whole", Words("cont'd cont'd. nor'easter c'mon e'er s'mores ev'ry li'l nat'l")),
    ("clipped", Pattern("(?:[lLdDjJ]|´dunkin´|´somethin´|´ol´)<apostrophe>")),
    ("clipping", Pattern("<apostrophe>(?:´n´<apostrophe>?|´em´|[2-9]´0s´|´till´|´til´|´cause´)")),
    ("irish", Pattern("[A-HJ-XZn]<tick><letter>{2,}|´o´<tick>´o´")),
    ("elided", Pattern("<letter>+[aeiouyAEIOUY]<tick>[aeiouA-Z]<letter>*")),
    // Addresses.
    ("path", Pattern(r#"[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-]"#)),
    ("url", Pattern(r#"(?:´http´|´https´)://[^ \t\n\f\r"<>|(){}]+[^ \t\n\f\r"<>|.!?(){},-]"#)),
    ("www", Pattern(r#"´www.´(?:[^ \t\n\f\r"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"#)),
    // In the class of its letters `,-_` is a range: it takes capitals and digits away.
    ("domain", Pattern(r#"(?:[^ \t\n\f\r"`'<>|.!?(){},-_$]+\.)+(?:´com´|´net´|´org´|´edu´)"#)),
    ("host", Pattern(r#"[^ \t\n\f\r"<>|(){}.\xA0]+"#)),
    ("email", Pattern(r#"(?:[<]|´&lt;´)?<alnum>[^ \t\n\f\r"<>|()\xA0{}]*@(?:<host>\.)*<host>(?:>|´&gt;´)?"#)),
    (
        "suffix",
        Words(
            "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php \
        pl png ppt ps py sql tar txt wav x xml zip",
        ),
    ),
    ("file", Pattern(r"(?:(?:<part>|<digit>)+\.)+<suffix>")),
    // Abbreviations that may end a sentence, those that never do, and those before numbers.
    ("month", Words("jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri")),
    (
        "state",
        Words(
            "ala ariz Az Ark calif colo conn ct dak Del fla ga Ill ind kan kans ky La Mass md mich minn Miss \
        mo mont neb nev okla Ore Pa penn tenn Tex va vt Wash wis wisc wyo",
        ),
    ),
    ("company", Words("inc co cos corp ltd plc rt bancorp bhd assn univ intl sys")),
    ("proprietary", Pattern("´p´?´pt´[ye]´s´?")),
    ("other", Words("tel est ext sq jr bros ed.d ph.d esq blvd rd sr bldg etc al seq")),
    ("ending", Pattern(r"(?:<month>|<state>|<company>|<proprietary>|<other>)\.")),
    (
        "title",
        Words(
            "mr mrs ms Miss dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm \
        rev maj sgt cpl pvt capt st ste ave pres lieut hon brig comdr cmdr pfc spc supt supts det mt ft adj \
        adv asst assoc ens insp mlle mme msgr sfc dept",
        ),
    ),
    ("leading", Words("vs alex wm jos cie a.k.a cf treas ph invt elec natl")),
    ("abbreviation", Pattern("<title>|<leading>|´m´[ft]´g´|<initials>")),
    ("reference", Words("ca. fig. figs. prop. no. nos. art. bldg. pp. op.")),
    (
        "opener",
        Words(
            "About According Additionally After An A As At But Earlier He Her Here However If In It Last \
        Many More Mr. Ms. Now Once One Other Our She Since So Some Such That The Their Then There These They This We When \
        While What Yet You",
        ),
    ),
    // Numbers of telephones.
    ("area", Pattern(r"\([0-9]{2,3}\)[ \xA0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xA0])?[0-9]{2,4}[- \xA0]")),
    ("dotted", Pattern(r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}")),
    ("phone", Pattern(r"<area>[0-9]{3,4}[- \xA0]?[0-9]{3,5}|<dotted>")),
    // Faces. The first of the eastern ones is a slip of the original: text up to the next `<>]`.
    ("face", Pattern(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]")),
    (
        "eastern",
        Pattern(concat!(
            r"[\^x=~<>]\.\[\^´x´=[^<]*[<]>\]|[-\^x=~<>']_[-\^x=~<>']",
            r"|\([-\^x=~<>'][_.]?[-\^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)",
        )),
    ),
    ("bracket", Words("-rrb- -lrb- -rcb- -lcb- -rsb- -lsb- c.d.s pro- anti-")),
    (
        "special",
        Pattern("<bracket>|´s´(?:&|´&amp;´)(?:´p-500´|´ls´)|´cap´<apostrophe>´n´|´c´<apostrophe>´est´"),
    ),
    (
        "symbol",
        Pattern(concat!(
            r"[+%&~\^|\\\xA6-\xA9\xAC\xAE-\xB9\xBA\xD7\xF7\x{387}\x{5BE}\x{5C0}\x{5C3}\x{5C6}\x{5F3}\x{5F4}",
            r"\x{600}-\x{603}\x{606}-\x{60A}\x{60C}\x{614}\x{61B}\x{61E}\x{66A}\x{66D}\x{703}-\x{70D}",
            r"\x{7F6}-\x{7F8}\x{964}\x{965}\x{E4F}\x{1FBD}\x{2016}\x{2017}\x{2020}-\x{2023}\x{2030}-\x{2038}",
            r"\x{203B}\x{203E}-\x{2042}\x{2044}\x{207A}-\x{207E}\x{208A}-\x{208E}\x{2100}-\x{214F}",
            r"\x{2190}-\x{2BFF}\x{3012}\x{30FB}\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}",
            r"\x{FF5B}-\x{FF65}]",
        )),
    ),
    ("stop", Pattern(r"[.\xA1\xBF\x{37E}\x{589}\x{61F}\x{6D4}\x{700}-\x{702}\x{3002}]")),
    ("ellipsis", Pattern(r"\.{3,5}|(?:\.[ \xA0]){2,4}\.|[\x85\x{2026}]")),
    ("superscript", Pattern(r"[\x{2070}\xB9\xB2\xB3\x{2074}-\x{2079}]+|[\x{2080}-\x{2089}]+")),
    (
        "money",
        Pattern(r"[\xA2-\xA5\x80\x{20A0}\x{20A4}\x{20AC}\x{60B}\x{E3F}\x{FFE0}\x{FFE1}\x{FFE5}\x{FFE6}]"),
    ),
    ("quotes", Pattern(r"''|[`\x{2018}-\x{201F}\x{91}-\x{94}\x{2039}\x{203A}\xAB\xBB]{1,2}|<apostrophe>")),
    ("double", Pattern("\"|´&quot;´")),
];

/// The rules in order of preference.
pub(super) const RULES: &[Rule] = &[
    rule("´cannot´|´'twas´", Short(3), Keep),
    rule("´gonna´|´gotta´|´lemme´|´gimme´|´wanna´|´'tis´", Short(2), Keep),
    rule("´c++´|[cfCF]#|[<][<]|>>", Whole, Keep),
    rule("<tag>", Whole, Spaced),
    rule(r"&(?:´md´|´mdash´|´ndash´);|[\x{96}\x{97}\x{2013}-\x{2015}]", Whole, As("--")),
    rule("´&amp;´", Whole, Ampersand),
    rule("&(?:´ht´|´tl´|´ur´|´lr´|´qc´|´ql´|´qr´|´odq´|´cdq´|#[0-9]+);", Whole, Keep),
    rule("<word><clitic>", Apostrophe, Word),
    rule(r"[A-Za-z\xAD]*[A-MO-Za-mo-z]\xAD*<not>", Negation, Word),
    rule("<word>", Whole, Word),
    rule("<whole>|<clipped>|<clipping>|<irish>|<elided>", Whole, Keep),
    rule("´y´<apostrophe><letter>", Short(1), Keep),
    rule("<url>|(?:<www>|<domain>)(?:/<path>)?", Whole, Keep),
    rule("<email>|@[a-zA-Z_][a-zA-Z_0-9]*|#<part>+", Whole, Keep),
    rule("(?:<clitic>|<not>)[^A-Za-z]", Short(1), Quote),
    rule("<day>[-/]<day>[-/]<digit>{2,4}", Whole, Keep),
    rule("[-+]?<number>", Whole, Word),
    rule(r"[\x{207A}\x{207B}\x{208A}\x{208B}]?<superscript>", Whole, Keep),
    rule(r"(?:<four>[- \xA0])?<four>(?:\\?/|\x{2044})<four>", Whole, Spaced),
    rule(r"[\xBC-\xBE\x{2153}-\x{215E}]", Whole, Fraction),
    rule("<special>", Whole, Ampersand),
    rule(r"<option>(?:\\?/<option>){1,2}", Whole, Keep),
    rule(r"[A-Z]*\$|#", Whole, Keep),
    rule("<money>", Whole, Currency),
    rule(r"<initials>\.<space>+(?:<opener>|<tag>)<space>", Initial, Keep),
    rule("<reference><space>?<numeral>", Stop, Keep),
    rule(r"(?:´pt´[eyEY]|´co´)\.<blank>(?:´ltd´|´lim´)", Short(4), Keep),
    rule("<ending><space>(?:<space>|<capital>|<tag>)", StopTwice, Keep),
    rule("<ending>(?s:..)", Short(2), Keep),
    rule("<ending>", LastStopTwice, Keep),
    rule(r"<abbreviation>\.", Whole, Keep),
    rule("<abbreviation><blank>", Short(1), Keep),
    rule("<initials><space>|<apostrophe>[0-9]{2}<space>", Space, Keep),
    rule("<file>(?:<space>|[.?!,])", File, Keep),
    rule(r"<word>\.<pause>", Short(1), Word),
    rule("<phone>", Whole, Phone),
    rule("<double>[A-Za-z0-9$]", Short(1), OpenQuote),
    rule("<double>", Whole, Quote),
    rule(r"\x7F", Whole, Drop),
    rule("[<]|´&lt;´", Whole, As("<")),
    rule(">|´&gt;´", Whole, As(">")),
    rule("<face>[^A-Za-z0-9]", Short(1), Smiley),
    rule("<eastern>", Whole, Smiley),
    rule(r"\{", Whole, As("-LCB-")),
    rule(r"\}", Whole, As("-RCB-")),
    rule(r"\[", Whole, As("-LSB-")),
    rule(r"\]", Whole, As("-RSB-")),
    rule(r"\(", Whole, As("-LRB-")),
    rule(r"\)", Whole, As("-RRB-")),
    rule("-+", Whole, Hyphens),
    rule("<ellipsis>", Whole, As("...")),
    rule(r"@+|#+|_+|\*+|(?:\\\*){1,3}|<pause>|[?!]+|<stop>|=|/", Whole, Keep),
    rule(r"<compound>\.<pause>", Short(1), Word),
    rule("<compound>", Whole, Word),
    rule(r"<joined>\.<pause>", Short(1), Keep),
    rule("<joined>", Whole, Keep),
    rule(r"<firm>\.<pause>", Short(1), Ampersand),
    rule("<firm>", Whole, Ampersand),
    rule(r"'[A-Za-z][^ \t\n\r\xA0]", First, OpenQuote),
    rule("<clitic>|<not>|<quotes>", Whole, Quote),
    rule("<symbol>", Whole, Keep),
    rule(r"\x00|<blank>+|[\x{200B}\x{200E}\x{200F}\x{FEFF}]|´&nbsp;´", Whole, Drop),
    rule("<line>", Whole, Drop),
    rule(r"[^\n\r\x0B\f\x85\x{2028}\x{2029}]", Whole, Drop),
];
