//! The front desk understands its phrases over the telephone, and takes nothing else for one.
//!
//! A tenth of what `examples/recognition.rs` measures, so that the suite stays quick; the bounds leave room for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::time::Duration;

use agent::ear::sphinx::{Sphinx, SphinxConfig};
use futures::StreamExt as _;

#[path = "recognition/measure.rs"]
mod measure;

use measure::{ACCENTS, Conditions, SCORE, TUNE, Tally, front_desk, recognise, utterances};

#[tokio::test]
async fn front_desk_understands_strange_voices_over_g711_g722_and_opus() {
    let scored = || SCORE.iter().chain(&ACCENTS);
    assert!(
        TUNE.iter().all(|voice| scored().all(|scored| scored != voice)),
        "a voice is scored that thresholds were chosen with"
    );
    let script = front_desk().unwrap();
    let ear = Sphinx::new(SphinxConfig::default()).unwrap();
    let said = utterances(&script, &SCORE, false).unwrap();
    for (codec, least_percent, most_wrong_percent) in [("PCMU", 85.0, 6.0), ("G722", 92.0, 6.0), ("opus", 92.0, 6.0)] {
        let (mut inside, mut outside) = (Tally::default(), Tally::default());
        let work = futures::stream::iter(said.iter().enumerate().step_by(11));
        let heard = work.map(|(number, one)| {
            let heard = recognise(&ear, &script, codec, number, one, Conditions::default(), Duration::ZERO);
            async move { (one, heard.await.unwrap()) }
        });
        for (one, heard) in heard.buffered(4).collect::<Vec<_>>().await {
            let tally = if one.meaning.is_some() { &mut inside } else { &mut outside };
            tally.count(heard.understood.as_ref(), one.meaning.as_ref());
            if heard.understood != one.meaning {
                let (voice, said) = (&one.voice, &one.said);
                println!(
                    "{codec}: {voice} in {}: `{said}` heard as `{}` ({:.2}, {:?})",
                    one.state, heard.text, heard.confidence, heard.wait
                );
            }
        }
        let (right, wrong) = (inside.share(inside.right), inside.share(inside.wrong));
        println!(
            "{codec}: {right:.1} % of {} right, {wrong:.1} % wrong; of {} outside {:.1} % taken for a phrase",
            inside.all(),
            outside.all(),
            outside.share(outside.wrong)
        );
        assert!(right >= least_percent, "{codec}: {right:.1} % right");
        assert!(wrong <= most_wrong_percent, "{codec}: {wrong:.1} % wrong");
        assert!(
            outside.wrong <= 1,
            "{codec}: {} of {} sentences outside taken for a phrase",
            outside.wrong,
            outside.all()
        );
    }
}
