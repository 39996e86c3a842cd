//! A record as named numbers, as the curves of TensorBoard and W&B have them.

use metrics::score::SCORE_NAMES;
use records::record::Record;

/// Numbers of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars {
    /// Updates done.
    pub step: u64,
    /// Names and values; a value need not be finite.
    pub values: Vec<(String, f64)>,
}

/// The numbers of an update, an epoch or a validation.
pub fn of_record(record: &Record) -> Option<Scalars> {
    let named = |values: &[(&str, Option<f64>)]| -> Vec<(String, f64)> {
        values.iter().filter_map(|&(name, value)| Some((name.to_owned(), value?))).collect()
    };
    let values = match record {
        Record::Step(record) => {
            // All of them are known of each update: one that is absent was not finite.
            let known = |value: Option<f64>| value.or(Some(f64::NAN));
            let mut values = named(&[
                ("train/loss", known(record.loss)),
                ("train/learning_rate", known(record.learning_rate)),
                ("train/grad_norm", known(record.grad_norm)),
                ("train/images_per_second", known(record.images_per_second)),
                ("train/wait_seconds", known(record.wait_seconds)),
            ]);
            let rewards = record.rewards.named().into_iter();
            values.extend(rewards.filter_map(|(name, value)| Some((format!("train/{name}"), value?))));
            values
        }
        Record::Epoch(record) => named(&[
            ("train/epoch_loss", record.train_loss),
            ("train/epoch_seconds", record.train_seconds),
            ("train/skipped_updates", record.skipped_updates.map(|count| count as f64)),
        ]),
        Record::Validation(record) => {
            let mut values = named(&[
                ("val/loss", record.val_loss),
                ("val/seconds", record.val_seconds),
                ("val/distance", record.distance),
                ("val/bad_endings", record.bad_endings),
            ]);
            let score = |name: &str| Some((format!("val/{name}"), record.scores.as_ref()?.get(name).copied()??));
            values.extend(SCORE_NAMES.iter().filter_map(|name| score(name)));
            values.push(("epoch".to_owned(), record.epoch as f64));
            values
        }
        Record::Captions(_) | Record::Evaluation(_) => return None,
    };
    Some(Scalars { step: record.step()?, values })
}

#[cfg(test)]
mod tests {
    use records::record::{EpochRecord, Line, RewardsRecord, StepRecord, ValidationRecord};

    use super::*;

    #[test]
    fn a_record_has_the_same_numbers_as_the_line_that_it_leaves() {
        let step = StepRecord { step: 7, loss: Some(3.5), grad_norm: Some(f64::NAN), ..StepRecord::default() };
        let epoch = EpochRecord { step: Some(7), train_seconds: Some(2.0), ..EpochRecord::default() };
        let scores = [("METEOR", 0.5), ("CIDEr", 1.5), ("Bleu_4", 0.25)];
        let validation = ValidationRecord {
            epoch: 2,
            step: Some(7),
            val_loss: Some(2.5),
            val_seconds: Some(1.0),
            scores: Some(scores.map(|(name, value)| (name.to_owned(), Some(value))).into()),
            ..ValidationRecord::default()
        };
        let rewards = RewardsRecord { reward: Some(0.5), bad_endings: Some(0.25), ..RewardsRecord::default() };
        let rewarded = StepRecord {
            loss: Some(0.5),
            learning_rate: Some(0.5),
            grad_norm: Some(0.5),
            images_per_second: Some(0.5),
            wait_seconds: Some(0.5),
            rewards,
            ..step
        };
        let compared = ValidationRecord {
            step: Some(7),
            distance: Some(0.5),
            bad_endings: Some(0.0),
            ..ValidationRecord::default()
        };
        for (record, expected) in [
            (
                Record::Step(rewarded),
                "train/loss 0.5, train/learning_rate 0.5, train/grad_norm 0.5, train/images_per_second 0.5, \
                 train/wait_seconds 0.5, train/reward 0.5, train/bad_endings 0.25",
            ),
            (Record::Validation(compared), "val/distance 0.5, val/bad_endings 0, epoch 0"),
            (
                Record::Step(step),
                "train/loss 3.5, train/learning_rate NaN, train/grad_norm NaN, \
                                  train/images_per_second NaN, train/wait_seconds NaN",
            ),
            (Record::Epoch(epoch), "train/epoch_seconds 2"),
            (
                Record::Validation(validation),
                "val/loss 2.5, val/seconds 1, val/Bleu_4 0.25, val/METEOR 0.5, val/CIDEr 1.5, epoch 2",
            ),
        ] {
            let Line::Record(read) = Line::parse(record.to_line().unwrap().as_bytes()).unwrap() else { panic!() };
            for record in [record, read] {
                let scalars = of_record(&record).unwrap();
                let values: Vec<String> =
                    scalars.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
                assert_eq!((scalars.step, values.join(", ").as_str()), (7, expected));
            }
        }
    }
}
