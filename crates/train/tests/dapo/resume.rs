//! Checkpoints: a run that goes on computes what the uninterrupted one does.

use agentflow_train::dapo::Row;
use serde_json::json;

use crate::models::{config, distance, rows, trainer, weights};

#[test]
fn a_resumed_trainer_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = config();
    config.schedule.warmup = 4; // so that the count of updates matters
    let windows: Vec<Vec<Row>> = (0..4).map(|seed| rows(2, 20 + seed)).collect();
    let mut straight = trainer(config.clone());
    for rows in &windows[..2] {
        straight.update(rows).expect("an update");
    }
    // What is still to be learnt from, as the outer loop would keep it.
    let outer = json!({"cursor": 17, "buffer": &windows[2..]});
    straight.save(dir.path(), 2, "tiny", &outer).expect("a checkpoint");

    let mut resumed = trainer(config);
    let outer = resumed.restore(dir.path()).expect("readable").expect("a checkpoint");
    assert_eq!((resumed.updates(), &outer["cursor"]), (2, &json!(17)));
    assert_eq!(distance(&weights(&straight), &weights(&resumed)), 0.0);
    let buffer: Vec<Vec<Row>> = serde_json::from_value(outer["buffer"].clone()).expect("rows");
    assert_eq!(buffer, windows[2..]);
    for (rows, again) in windows[2..].iter().zip(&buffer) {
        let wanted = straight.update(rows).expect("an update");
        let found = resumed.update(again).expect("an update");
        assert_eq!((found.loss, found.lr, found.update), (wanted.loss, wanted.lr, wanted.update));
    }
    assert_eq!(distance(&weights(&straight), &weights(&resumed)), 0.0);
}

#[test]
fn old_checkpoints_go_and_damaged_or_foreign_ones_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut first = trainer(config());
    assert!(first.restore(dir.path()).expect("nothing there").is_none());
    for _ in 0..3 {
        first.update(&rows(2, 30)).expect("an update");
        first.save(dir.path(), 2, "tiny", &json!(null)).expect("a checkpoint");
    }
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["update-000002", "update-000003"]);

    let mut wider = config();
    wider.lora.as_mut().expect("an adapter").rank = 5;
    let refused = trainer(wider).restore(dir.path()).expect_err("another rank").to_string();
    assert!(refused.contains("update-000003") && refused.contains("lora_A"), "{refused}");

    std::fs::write(dir.path().join("update-000003/state.json"), "{").expect("writes");
    let refused = trainer(config()).restore(dir.path()).expect_err("damaged").to_string();
    assert!(refused.contains("state.json") && refused.contains("remove it"), "{refused}");
}
