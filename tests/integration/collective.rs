//! The loop in several processes that train together, for which threads stand in here: they decide as one, and one
//! writes.

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::{Result, ensure};
use base::stop::StopFlag;
use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Tensor};
use caption_train::config::{self, RunConfig};
use caption_train::data::image_source::{ImageFiles, ImageInput, ImageSource};
use caption_train::data::pieces::Piece;
use caption_train::model::parameters::Parameters;
use caption_train::run::checkpoint::find_latest::best_in_run;
use caption_train::run::checkpoint::reader::read_model;
use caption_train::run::setup::Setup;
use caption_train::training::checkpointer::{Checkpointer, SavePoint};
use caption_train::training::collective::{Alone, Collective};
use caption_train::training::events::{Event, Observer};
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::optimizer::Optimizer;
use caption_train::training::train_state::TrainState;
use caption_train::training::train_step::{StepSettings, train_step};
use caption_train::training::trainer::Outcome;
use caption_train::training::tree_sum::{TreeSum, sum_at_leaves};
use datasets::prepared::Dataset;
use ops::Precision;

use crate::interruption::fresh;
use crate::self_critical::{scst_config, trained_run};
use crate::support::{batch, random_parameters, shape};

/// A process, played by a thread.
struct Process {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// Where all of them put something down and take up what the others put.
struct Meeting {
    size: usize,
    state: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    brought: Vec<Option<Vec<f64>>>,
    taken: usize,
    is_aborted: bool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank, self.meeting.size)
    }
}

fn processes(size: usize) -> Vec<Process> {
    let state = Mutex::new(Table { brought: vec![None; size], ..Table::default() });
    let meeting = Arc::new(Meeting { size, state, changed: Condvar::new() });
    (0..size).map(|rank| Process { rank, meeting: Arc::clone(&meeting) }).collect()
}

impl Process {
    /// What each process brought, in their order.
    fn exchange(&self, values: Vec<f64>) -> Result<Vec<Vec<f64>>> {
        let Meeting { size, state, changed } = &*self.meeting;
        let mut table = state.lock().unwrap();
        table = changed
            .wait_while(table, |table| !table.is_aborted && (table.taken > 0 || table.brought[self.rank].is_some()))
            .unwrap();
        table.brought[self.rank] = Some(values);
        changed.notify_all();
        table =
            changed.wait_while(table, |table| !table.is_aborted && table.brought.iter().any(Option::is_none)).unwrap();
        ensure!(table.brought.iter().all(Option::is_some), "a process is gone");
        let found = table.brought.iter().flatten().cloned().collect();
        table.taken += 1;
        if table.taken == *size {
            table.taken = 0;
            table.brought.fill(None);
            changed.notify_all();
        }
        Ok(found)
    }
}

impl Collective for Process {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.size
    }

    fn sum_tensors(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        for tensor in tensors {
            // Every bit of an f32 is one of an f64.
            let own: Vec<f64> = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            let sum = TreeSum::default();
            for (rank, values) in self.exchange(own)?.into_iter().enumerate() {
                let term = Tensor::from_vec(values, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())?;
                sum.add(rank, term, |left: Tensor, right: Tensor| left + right)?;
            }
            **tensor = sum.finish(|left, right| left + right)?.unwrap();
        }
        Ok(())
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        let brought = self.exchange(values.to_vec())?;
        for (place, value) in values.iter_mut().enumerate() {
            *value = sum_at_leaves(brought.iter().map(|values| values[place]).enumerate())?;
        }
        Ok(())
    }

    fn any(&self, here: bool) -> Result<bool> {
        Ok(self.exchange(vec![f64::from(here)])?.concat().contains(&1.0))
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let brought = self.exchange(bytes.iter().copied().map(f64::from).collect())?;
        *bytes = brought[0].iter().map(|&byte| byte as u8).collect();
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let brought = self.exchange(bytes.iter().copied().map(f64::from).collect())?;
        Ok(brought.into_iter().map(|values| values.into_iter().map(|byte| byte as u8).collect()).collect())
    }

    fn barrier(&self) -> Result<()> {
        self.exchange(Vec::new()).map(drop)
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, _: &str) {
        self.meeting.state.lock().unwrap().is_aborted = true;
        self.meeting.changed.notify_all();
    }
}

/// What a process did.
struct Trained {
    outcome: Result<Outcome>,
    /// Updates that the observer heard of.
    reported: Vec<u64>,
    /// All events.
    num_events: usize,
    num_saves: usize,
    /// Updates made.
    global_step: u64,
    val_loss: Option<f64>,
    parameters: Vec<Vec<u32>>,
}

/// Asks to stop after an update, or fails there.
struct Watcher {
    after: Option<u64>,
    fails: bool,
    stop: StopFlag,
    reported: Vec<u64>,
    num_events: usize,
}

impl Observer for Watcher {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        self.num_events += 1;
        if let Event::Step(report) = event {
            self.reported.push(report.step);
            if Some(report.step) == self.after {
                ensure!(!self.fails, "an observer failed");
                self.stop.raise();
            }
        }
        Ok(())
    }
}

/// Counts the checkpoints that it is asked for.
struct Saves(usize);

impl Checkpointer for Saves {
    fn save(&mut self, _: SavePoint, _: &TrainState, _: &Parameters, _: &Optimizer) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

/// Trains with two pools. `stop` is that of this process.
fn train(
    setup: Setup,
    collective: Rc<dyn Collective>,
    files: &Arc<ImageFiles>,
    stop: StopFlag,
    watch: Option<(u64, bool)>,
) -> Trained {
    let source = ImageSource::files(Arc::clone(files), setup.plan.views());
    let mut trainer = setup.into_trainer(source, Device::Cpu, WorkerPools::new(2, 1).unwrap(), collective);
    let (after, fails) = watch.map_or((None, false), |(after, fails)| (Some(after), fails));
    let mut watcher = Watcher { after, fails, stop: stop.clone(), reported: Vec::new(), num_events: 0 };
    let mut saves = Saves(0);
    let outcome = trainer.run(&mut watcher, &mut saves, &stop);
    Trained {
        outcome,
        reported: watcher.reported,
        num_events: watcher.num_events,
        num_saves: saves.0,
        global_step: trainer.state.global_step,
        val_loss: trainer.state.val_loss,
        parameters: bits(&trainer.parameters),
    }
}

fn bits(parameters: &Parameters) -> Vec<Vec<u32>> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    parameters.iter().map(|(_, p)| bits(p.var.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

/// Two processes; `of_process` gives the images of each, its stop flag and what its observer does.
fn together(
    folder: &Path,
    of_process: impl Fn(usize, ImageFiles) -> (ImageFiles, StopFlag, Option<(u64, bool)>) + Sync,
) -> [Trained; 2] {
    together_of(|| fresh(folder, ""), of_process)
}

/// The same of the run that `make` puts together in each process.
fn together_of(
    make: impl Fn() -> Setup + Sync,
    of_process: impl Fn(usize, ImageFiles) -> (ImageFiles, StopFlag, Option<(u64, bool)>) + Sync,
) -> [Trained; 2] {
    let found: Vec<Trained> = std::thread::scope(|scope| {
        let start = |process: Process| {
            let (make, of_process) = (&make, &of_process);
            scope.spawn(move || {
                let setup = make();
                let files = (*setup.image_files()).clone();
                let (files, stop, watch) = of_process(process.rank, files);
                train(setup, Rc::new(process), &Arc::new(files), stop, watch)
            })
        };
        let threads: Vec<_> = processes(2).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    found.try_into().ok().unwrap()
}

#[test]
fn two_processes_sample_and_reward_the_captions_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let config = config::parse(&scst_config(folder.path()), "test", &[]).unwrap();
        let path = best_in_run(&trained_run().join("run")).unwrap();
        Setup::continued(config, read_model(&path).unwrap(), &path, &Device::Cpu, 1).unwrap()
    };
    let setup = make();
    let files = setup.image_files();
    let expected = train(setup, Rc::new(Alone), &files, StopFlag::default(), None);
    assert_eq!(expected.global_step, 32);
    let [main, other] = together_of(make, |_, files| (files, StopFlag::default(), None));
    assert_eq!(main.parameters, expected.parameters);
    assert_eq!(other.parameters, expected.parameters);
    assert_eq!(
        (main.val_loss, main.num_events, main.num_saves),
        (expected.val_loss, expected.num_events, expected.num_saves)
    );
}

#[test]
fn two_processes_make_the_updates_of_one_to_the_bit_and_one_of_them_reports() {
    let folder = tempfile::tempdir().unwrap();
    let setup = fresh(folder.path(), "");
    let files = setup.image_files();
    let expected = train(setup, Rc::new(Alone), &files, StopFlag::default(), None);
    let [main, other] = together(folder.path(), |_, files| (files, StopFlag::default(), None));
    assert_eq!(main.parameters, expected.parameters);
    assert_eq!(other.parameters, expected.parameters);
    assert_eq!((main.val_loss, other.val_loss), (expected.val_loss, expected.val_loss));
    assert_eq!((main.num_events, &main.reported), (expected.num_events, &expected.reported));
    assert_eq!((other.num_events, other.num_saves), (0, 0));
    assert!(main.num_saves > 0 && main.num_saves == expected.num_saves);
    assert_eq!(main.outcome.unwrap(), Outcome::Completed);
}

#[test]
fn a_stop_of_one_process_stops_all_after_the_same_update() {
    let folder = tempfile::tempdir().unwrap();
    let raised = StopFlag::default();
    raised.raise();
    // Before the first update, asked of the process that does not write.
    let [main, other] = together(folder.path(), |rank, files| {
        (files, if rank == 1 { raised.clone() } else { StopFlag::default() }, None)
    });
    assert_eq!((main.global_step, other.global_step), (0, 0));
    assert_eq!((main.outcome.unwrap(), other.outcome.unwrap()), (Outcome::Interrupted, Outcome::Interrupted));
    // After the second, asked of the one that writes.
    let [main, other] = together(folder.path(), |_, files| (files, StopFlag::default(), Some((2, false))));
    assert_eq!((main.global_step, other.global_step), (2, 2));
    assert_eq!((main.outcome.unwrap(), other.outcome.unwrap()), (Outcome::Interrupted, Outcome::Interrupted));
}

#[test]
fn an_image_that_one_process_cannot_read_ends_all_of_them_at_the_same_update() {
    let folder = tempfile::tempdir().unwrap();
    let [main, other] = together(folder.path(), |rank, mut files| {
        if rank == 1 {
            let names = vec!["absent.png"; files.dataset.images.len()];
            files.dataset = Arc::new(Dataset::of_names(folder.path(), names));
        }
        (files, StopFlag::default(), None)
    });
    assert_eq!((main.global_step, other.global_step), (0, 0));
    let (main, other) = (main.outcome.unwrap_err().to_string(), format!("{:#}", other.outcome.unwrap_err()));
    assert!(main.contains("another process could not load its images"), "{main}");
    assert!(other.contains("absent.png"), "{other}");
}

#[test]
fn a_process_that_fails_takes_the_others_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let [main, other] = together(folder.path(), |_, files| (files, StopFlag::default(), Some((1, true))));
    assert!(main.outcome.unwrap_err().to_string().contains("an observer failed"));
    assert!(other.outcome.unwrap_err().to_string().contains("a process is gone"));
}

#[test]
fn an_update_whose_loss_is_not_finite_in_one_process_is_skipped_by_all() {
    let captions: [&[u32]; 2] = [&[1, 5, 6, 7, 2], &[1, 8, 2]];
    let shape = shape("vit", true, true);
    let before = bits(&random_parameters(&shape, DType::F32));
    let update = |process: &Process, is_broken: bool| {
        let parameters = random_parameters(&shape, DType::F32);
        let mut optimizer = Optimizer::new(&parameters, &shape, &RunConfig::default().optimizer).unwrap();
        let mut batch = batch(&shape, &captions, DType::F32);
        if is_broken {
            let ImageInput::Pixels(pixels) = &batch.images else { panic!("the batch is made of pixels") };
            batch.images = ImageInput::Pixels((pixels * f64::NAN).unwrap());
        }
        let settings = StepSettings {
            loss: &TokenCrossEntropy { label_smoothing: 0.0 },
            precision: Precision::Full,
            seed: 0,
            dropout: 0.0,
            recompute: false,
            max_grad_norm: None,
            collective: process,
        };
        let pending = train_step(
            &shape,
            &parameters,
            &mut optimizer,
            &Piece::in_order([batch]),
            0,
            0.1,
            &settings,
            &WorkerPools::alone(),
        )
        .unwrap();
        let outcome = pending.read(&mut optimizer).unwrap();
        (outcome, bits(&parameters))
    };
    for broken in [None, Some(0), Some(1)] {
        let found: Vec<_> = std::thread::scope(|scope| {
            let start = |process: Process| {
                let update = &update;
                scope.spawn(move || update(&process, broken == Some(process.rank)))
            };
            let threads: Vec<_> = processes(2).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (outcome, parameters) in &found {
            assert_eq!(outcome.skipped, broken.is_some());
            assert_eq!(*parameters == before, broken.is_some());
            assert_eq!(*parameters, found[0].1);
            // Both processes had these captions.
            assert_eq!((outcome.loss.count, outcome.num_examples), (2.0 * (4.0 + 2.0), 2 * 2));
        }
    }
}
