use super::*;

fn list(name: &str, items: &[(&str, &[&str])]) -> BTreeMap<String, Vec<ListItem>> {
    let items = items.iter().map(|(value, says)| ListItem {
        value: (*value).into(),
        says: says.iter().map(|said| (*said).into()).collect(),
    });
    BTreeMap::from([(name.to_owned(), items.collect())])
}

fn grammar(phrases: &[&str]) -> Grammar {
    Grammar::new(vec![Rule::new("rule", phrases.iter().copied())], BTreeMap::new()).unwrap()
}

fn slot(phrase: &str, text: &str, name: &str) -> Option<String> {
    grammar(&[phrase]).match_text(text).and_then(|found| found.slots.get(name).cloned())
}

#[test]
fn matches_words_whatever_their_case_and_punctuation() {
    let grammar = grammar(&["what are your opening hours"]);
    assert_eq!(grammar.match_text("What are your opening-hours?").unwrap().rule, "rule");
    assert!(grammar.match_text("what are your opening").is_none());
    assert!(grammar.match_text("what are your opening hours now").is_none());
    assert!(grammar.match_text("").is_none());
}

#[test]
fn optional_parts_and_alternatives_combine() {
    let grammar = grammar(&["[i (want|would like) to] (book|make) an appointment [please]"]);
    for said in ["book an appointment", "I want to make an appointment", "i would like to book an appointment please"] {
        assert!(grammar.match_text(said).is_some(), "{said}");
    }
    for said in ["i want book an appointment", "an appointment", "book make an appointment"] {
        assert!(grammar.match_text(said).is_none(), "{said}");
    }
}

#[test]
fn hesitations_and_courtesies_do_not_hide_the_meaning() {
    let grammar = grammar(&["opening hours"]);
    assert!(grammar.match_text("Hello, um, opening, er, hours please").is_some());
    assert!(grammar.match_text("um").is_none());
}

#[test]
fn the_first_rule_that_fits_wins() {
    let rules = vec![Rule::new("exact", ["on monday"]), Rule::new("any", ["on {day}"])];
    let grammar = Grammar::new(rules, BTreeMap::new()).unwrap();
    assert_eq!(grammar.match_text("on Monday").unwrap().rule, "exact");
    let other = grammar.match_text("on Tuesday").unwrap();
    assert_eq!((other.rule.as_str(), other.slots["day"].as_str()), ("any", "Tuesday"));
}

#[test]
fn slots_take_other_names_and_several_stand_in_one_phrase() {
    let grammar = grammar(&["from {start:time} to {end:time} on {day}"]);
    let slots = grammar.match_text("from half past nine to ten on friday").unwrap().slots;
    assert_eq!(slots["start"], "9:30");
    assert_eq!(slots["end"], "10:00");
    assert_eq!(slots["day"], "Friday");
}

#[test]
fn a_list_gives_the_value_of_what_was_said() {
    let lists = list("person", &[("Dr Smith", &["[doctor] smith", "the dentist"]), ("Anna", &[])]);
    let grammar = Grammar::new(vec![Rule::new("who", ["with {person}"])], lists).unwrap();
    for (said, value) in [("with smith", "Dr Smith"), ("with the dentist", "Dr Smith"), ("with Anna", "Anna")] {
        assert_eq!(grammar.match_text(said).unwrap().slots["person"], value);
    }
    assert!(grammar.match_text("with dr").is_none());
    assert!(grammar.match_text("with Dr. Smith").is_some());
}

#[test]
fn numbers_are_understood_as_spoken_and_as_written() {
    for (said, value) in [
        ("zero", "0"),
        ("seven", "7"),
        ("twenty five", "25"),
        ("twenty-five", "25"),
        ("25", "25"),
        ("a hundred", "100"),
        ("two hundred and five", "205"),
        ("205", "205"),
        ("nineteen hundred", ""),
        ("one thousand two hundred thirty four", "1234"),
        ("1,234", "1234"),
        ("nine thousand and one", "9001"),
    ] {
        let expected = Some(value.to_owned()).filter(|value| !value.is_empty());
        assert_eq!(slot("{number}", said, "number"), expected, "{said}");
    }
}

#[test]
fn every_number_is_read_back_as_itself() {
    let general = grammar(&["{number}"]);
    for number in 0..=9999 {
        let said = spoken::number_words(number).join(" ");
        assert_eq!(general.match_text(&said).unwrap().slots["number"], number.to_string(), "{said}");
    }
}

#[test]
fn a_range_of_numbers_refuses_what_is_outside() {
    assert_eq!(slot("table for {people:number 1-12}", "table for twelve", "people").unwrap(), "12");
    assert_eq!(slot("table for {people:number 1-12}", "table for thirteen", "people"), None);
    assert_eq!(slot("{number 90-110}", "one hundred and three", "number").unwrap(), "103");
}

#[test]
fn digits_come_one_by_one_doubled_and_as_oh() {
    for (said, value) in [
        ("one two three four", "1234"),
        ("oh five double seven", "0577"),
        ("double oh double five", "0055"),
        ("triple nine one", "9991"),
        ("1234", "1234"),
        ("12 34", "1234"),
    ] {
        assert_eq!(slot("{pin:digits 4}", said, "pin").as_deref(), Some(value), "{said}");
    }
    assert_eq!(slot("{pin:digits 4}", "one two three", "pin"), None);
    assert_eq!(slot("{pin:digits 4}", "one two three double four", "pin"), None);
    assert_eq!(slot("{digit}", "oh", "digit").as_deref(), Some("0"));
    assert_eq!(slot("{digits}", "0557", "digits").as_deref(), Some("0557"));
}

#[test]
fn times_are_understood_in_all_their_ways() {
    for (said, value) in [
        ("three", "3:00"),
        ("three o'clock", "3:00"),
        ("3:00", "3:00"),
        ("three thirty", "3:30"),
        ("3:30", "3:30"),
        ("3.30 pm", "3:30 pm"),
        ("half past three", "3:30"),
        ("quarter past ten", "10:15"),
        ("a quarter to one", "12:45"),
        ("ten to six", "5:50"),
        ("twenty five past six", "6:25"),
        ("ten oh five", "10:05"),
        ("ten a.m.", "10:00 am"),
        ("10am", "10:00 am"),
        ("four in the afternoon", "4:00 pm"),
        ("eleven fifteen p m", "11:15 pm"),
        ("noon", "12:00 pm"),
    ] {
        assert_eq!(slot("[at] {time}", said, "time").as_deref(), Some(value), "{said}");
    }
    assert_eq!(slot("{time}", "thirteen", "time"), None);
}

#[test]
fn yes_and_no_have_many_forms() {
    for said in ["yes", "Yeah.", "yep", "that's right", "yes please", "Yes, that is correct", "sure", "OK"] {
        assert_eq!(slot("{yesno}", said, "yesno").as_deref(), Some("yes"), "{said}");
    }
    for said in ["no", "nope", "no thanks", "No, that's not right", "wrong"] {
        assert_eq!(slot("{yesno}", said, "yesno").as_deref(), Some("no"), "{said}");
    }
}

#[test]
fn every_sentence_of_the_network_has_a_meaning() {
    let lists = list("person", &[("Smith", &["[doctor] smith", "the (dentist|doctor)"])]);
    let phrases = [
        "[i'd like to] (book|make) an appointment [on {day}] [at {time}]",
        "{digits 3-6}",
        "{number}",
        "{yesno}",
        "with {person} [and {n:number 1-20} (others|friends)]",
    ];
    let grammar = Grammar::new(vec![Rule::new("any", phrases)], lists).unwrap();
    for seed in 0..4_000 {
        let said = grammar.network().sentence(seed);
        let found = grammar.match_text(&said).unwrap_or_else(|| panic!("seed {seed}: `{said}`"));
        assert!(found.slots.values().all(|value| !value.is_empty()), "seed {seed}: `{said}` {found:?}");
    }
}

#[test]
fn the_network_is_small_and_ends_where_phrases_end() {
    let grammar = grammar(&["on {day}", "for {day}"]);
    let network = grammar.network();
    assert_eq!(network.states(), 3);
    assert_eq!(network.transitions().count(), 9);
    assert!(!network.is_final(0));
    assert_eq!((0..3).filter(|state| network.is_final(*state)).count(), 1);
}

#[test]
fn tells_whether_more_may_follow() {
    let grammar = grammar(&["on {day}", "yes [please]"]);
    assert!(grammar.may_continue("on"));
    assert!(grammar.may_continue("yes"));
    assert!(grammar.may_continue(""));
    assert!(!grammar.may_continue("on monday"));
    assert!(!grammar.may_continue("no"));
}

#[test]
fn jsgf_names_every_word() {
    let grammar = grammar(&["[please] call (me|us) on {day}"]);
    let jsgf = grammar.to_jsgf();
    assert!(jsgf.starts_with("#JSGF V1.0;"));
    for word in grammar.vocabulary() {
        assert!(jsgf.contains(word), "{word} in {jsgf}");
    }
}

#[test]
fn a_wrong_phrase_is_refused_with_its_place() {
    let fault = |phrase: &str| Grammar::new(vec![Rule::new("r", [phrase])], BTreeMap::new()).unwrap_err();
    let syntax = |phrase: &str| match fault(phrase) {
        GrammarError::Syntax { at, .. } => at,
        other => panic!("{other}"),
    };
    assert_eq!(syntax("call (me"), 5);
    assert_eq!(syntax("call me)"), 7);
    assert_eq!(syntax("on {day"), 3);
    assert_eq!(syntax("yes | no"), 4);
    assert_eq!(syntax("caf\u{e9}"), 3);
    assert_eq!(syntax("{n:number 5-1}"), 0);
    assert_eq!(syntax("{day 1-2}"), 0);
    assert_eq!(syntax(&"(".repeat(40)), 12);
    assert!(matches!(fault("on {weekday}"), GrammarError::UnknownSlot { slot, .. } if slot == "weekday"));
    assert!(matches!(fault("[please]"), GrammarError::SaysNothing { .. }));
    assert!(matches!(fault(""), GrammarError::SaysNothing { .. }));
    assert!(matches!(
        Grammar::new(vec![Rule::new("r", Vec::<String>::new())], BTreeMap::new()),
        Err(GrammarError::NoPhrases { .. })
    ));
    let long = "word ".repeat(MAX_PHRASE_BYTES / 5 + 1);
    assert_eq!(syntax(&long), MAX_PHRASE_BYTES);
}

#[test]
fn a_grammar_past_the_limit_of_states_is_refused() {
    let phrase = "{number} ".repeat(20);
    let error = Grammar::new(vec![Rule::new("r", vec![phrase; 40])], BTreeMap::new()).unwrap_err();
    assert_eq!(error, GrammarError::TooLarge { limit: MAX_STATES });
}

#[test]
fn long_and_odd_texts_end_in_no_match() {
    let grammar = grammar(&["{digits}", "yes"]);
    assert!(grammar.match_text(&"one ".repeat(10_000)).is_none());
    assert!(grammar.match_text(&"9".repeat(100_000)).is_none());
    assert!(grammar.match_text("\u{0}\u{1F600} \u{202E}99999999999999999999999 %%% 12:3x").is_none());
}

#[test]
fn equal_grammars_have_equal_hashes() {
    assert_eq!(grammar(&["a b"]).hash(), grammar(&["a b"]).hash());
    assert_ne!(grammar(&["a b"]).hash(), grammar(&["a c"]).hash());
}
