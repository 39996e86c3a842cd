//! Several processes with a real MPI: the test starts itself under `mpiexec`.
//!
//! `runtimes/mod.rs` says where MPIs are looked for. A word on the command line selects cases by name.

#![expect(clippy::disallowed_methods, reason = "tests look into the system")]
#![expect(clippy::unwrap_used, reason = "a test without the harness, which clippy does not know for one")]

mod runtimes;

use std::env;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base::error::describe;
use base::terminal;
use caption_processes::{Launch, World};
use runtimes::{Runtime, runtimes};

/// Names what a process that `mpiexec` started is to do.
const ROLE: &str = "CAPTION_TEST_ROLE";
/// The rank that something happens to.
const VICTIM: &str = "CAPTION_TEST_VICTIM";
/// Much longer than any case takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Case = fn(&Runtime);

const CASES: [(&str, Case); 14] = [
    ("sums_are_the_plain_tree_and_messages_arrive", sums_and_messages),
    ("one_process_is_alone", one_process_is_alone),
    ("a_killed_process_is_named_by_the_others", |runtime| killed(runtime, 1)),
    ("a_killed_process_0_is_named_by_the_others", |runtime| killed(runtime, 0)),
    ("a_stopped_process_is_named_after_a_while", |runtime| stopped(runtime, "waits", 1)),
    ("a_stopped_process_0_is_named_after_a_while", |runtime| stopped(runtime, "waits", 0)),
    ("a_stopped_process_ends_those_that_compute", |runtime| stopped(runtime, "computes", 1)),
    ("a_stopped_process_ends_those_within_mpi", |runtime| stopped(runtime, "is_within_mpi", 0)),
    ("the_error_of_a_process_is_shown_by_others", aborted),
    ("a_process_that_leaves_early_is_named", leaves_early),
    ("a_panic_is_named", panicked),
    ("bound_processes_are_warned", bound),
    ("processes_started_here_stop_when_the_starter_is_interrupted", started_here),
    ("a_run_that_was_paused_as_a_whole_goes_on", paused),
];

fn main() {
    if let Ok(role) = env::var(ROLE) {
        // The role of processes that a process with a role started.
        let role = env::args().nth(1).unwrap_or(role);
        std::process::exit(play(&role));
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let selected = |name: &str| {
        let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    };
    let runtimes = runtimes();
    for runtime in &runtimes {
        for (name, case) in CASES.iter().filter(|(name, _)| selected(name)) {
            let started = Instant::now();
            case(runtime);
            let seconds = started.elapsed().as_secs_f64();
            terminal::message(&format!("test {name} with {} ... ok ({seconds:.1} s)", runtime.library.display()));
        }
    }
    for (one, other) in runtimes.iter().zip(runtimes.iter().skip(1)).filter(|_| selected("the_wrong_mpirun_is_named")) {
        if one.is_open_mpi() != other.is_open_mpi() {
            the_wrong_mpirun_is_named(one, other);
            the_wrong_mpirun_is_named(other, one);
            terminal::message("test the_wrong_mpirun_is_named ... ok");
        }
    }
}

impl Runtime {
    fn command(&self, library: &Path, size: usize, role: &str) -> Command {
        let mut command = self.mpiexec();
        command.args(["-n", &size.to_string()]).arg(env::current_exe().unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("CAPTION_TRAIN_MPI", library).env(ROLE, role).env("CAPTION_TRAIN_PEER_TIMEOUT", "3");
        command
    }

    fn run(&self, size: usize, role: &str, victim: usize) -> (Output, String) {
        output(self.command(&self.library, size, role).env(VICTIM, victim.to_string()))
    }
}

/// Runs a command that must end in time. The text is all that it printed.
fn output(command: &mut Command) -> (Output, String) {
    let child = command.spawn().unwrap();
    let id = child.id().to_string();
    let (tell, hear) = std::sync::mpsc::channel();
    let watchdog = base::threads::spawn("watchdog", move || {
        if hear.recv_timeout(PATIENCE).is_err() {
            let _ = Command::new("kill").args(["-TERM", &id]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    tell.send(()).expect("the processes must end in time");
    watchdog.unwrap().join().unwrap();
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    (output, text)
}

/// What a process does that `mpiexec` started; its exit code.
fn play(role: &str) -> i32 {
    if role == "starts" {
        return start();
    }
    let launch = match Launch::of_environment(&|name| env::var(name).ok()) {
        Ok(Some(launch)) => launch,
        Ok(None) => {
            terminal::message("alone");
            return 0;
        }
        Err(error) => return fail(&error),
    };
    let world = match World::open(&launch) {
        Ok(world) => world,
        Err(error) => return fail(&error),
    };
    let is_victim = env::var(VICTIM).is_ok_and(|victim| victim == world.rank().to_string());
    let result = match role {
        "checks" => check(&world),
        "dies" | "waits" | "computes" | "is_within_mpi" if is_victim => {
            world.barrier().unwrap();
            let signal = if role == "dies" { "-KILL" } else { "-STOP" };
            Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap();
            std::thread::sleep(PATIENCE);
            Ok(())
        }
        "computes" => world.barrier().map(|()| std::thread::sleep(PATIENCE)),
        "is_within_mpi" => world.barrier().and_then(|()| world.sum_f32_fast(&mut [1.0; 1000])),
        "aborts" if is_victim => {
            world.barrier().unwrap();
            world.abort("no space left on device");
            return fail(&anyhow::anyhow!("the disk is full"));
        }
        "leaves" if is_victim => {
            world.barrier().unwrap();
            drop(world);
            return fail(&anyhow::anyhow!("something else is wrong"));
        }
        "panics" if is_victim => {
            world.barrier().unwrap();
            panic!("on purpose");
        }
        "is_bound" => {
            if let Some(warning) = world.binding_warning() {
                terminal::warning(&warning);
            }
            Ok(())
        }
        "waits_for_ctrl_c" => wait_for_ctrl_c(&world),
        "pauses" => {
            let until = Instant::now() + Duration::from_secs(9);
            // One that has passed the time must wait for the others to do so.
            (|| {
                while world.any(Instant::now() < until)? {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            })()
        }
        _ => std::iter::repeat_with(|| world.barrier()).find(Result::is_err).unwrap_or(Ok(())),
    };
    match result.and_then(|()| world.finish()) {
        Ok(()) => {
            terminal::message("finished");
            0
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> i32 {
    terminal::error(&describe(error));
    1
}

/// Numbers of such different sizes that another order of additions gives another sum.
fn value(rank: usize, index: usize) -> f32 {
    let bits = base::random::mix_key(&[rank as u64, index as u64]);
    (bits as i32 as f32) * 2_f32.powi((bits >> 40) as i32 % 24 - 36)
}

fn plain_tree(size: usize, index: usize) -> f32 {
    let mut values: Vec<f32> = (0..size).map(|rank| value(rank, index)).collect();
    while values.len() > 1 {
        values = values.chunks(2).map(|pair| pair[0] + pair[1]).collect();
    }
    values[0]
}

fn check(world: &World) -> anyhow::Result<()> {
    let (rank, size) = (world.rank(), world.size());
    assert_eq!((world.local_rank(), world.local_size(), world.hosts().len()), (rank, size, size));
    for length in [0, 1, 2, 3, 7, 1000, 8193, (1 << 20) + 3, (5 << 20) + 1] {
        let mut values: Vec<f32> = (0..length).map(|index| value(rank, index)).collect();
        let mut fast = values.clone();
        if size.is_power_of_two() {
            world.sum_f32(&mut values)?;
            let differs = (0..length).find(|&index| values[index].to_bits() != plain_tree(size, index).to_bits());
            assert_eq!(differs, None, "{size} processes, {length} values");
        } else {
            assert!(world.sum_f32(&mut values).is_err());
        }
        // MPICH's own waiting takes seconds when there are more processes than cores.
        if length <= 1000 {
            world.sum_f32_fast(&mut fast)?;
            assert!(fast.iter().all(|value| value.is_finite()));
        }
    }
    let mut doubles: Vec<f64> = (0..1000).map(|index| (rank + index) as f64).collect();
    let mut fast = doubles.clone();
    world.sum_f64_fast(&mut fast)?;
    if size.is_power_of_two() {
        world.sum_f64(&mut doubles)?;
        assert_eq!(doubles, fast);
    }
    for length in [0, 1, 1000, 9 << 20] {
        let of_rank = |rank: usize| vec![rank as u8 + 1; length / (rank + 1)];
        let mut bytes = of_rank(rank);
        assert_eq!(world.gather(&bytes)?, (0..size).map(of_rank).collect::<Vec<_>>());
        world.broadcast(&mut bytes)?;
        assert_eq!(bytes, of_rank(0));
    }
    for asked in 0..=size {
        assert_eq!(world.any(rank == asked)?, asked < size);
    }
    Ok(())
}

fn sums_and_messages(runtime: &Runtime) {
    for size in [2, 3, 4] {
        let (output, text) = runtime.run(size, "checks", size);
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("finished").count(), size, "{text}");
        assert!(!text.contains("warning") && !text.contains("error"), "{text}");
    }
}

fn one_process_is_alone(runtime: &Runtime) {
    let (output, text) = runtime.run(1, "checks", 1);
    assert!(output.status.success() && text.contains("alone"), "{text}");
}

fn killed(runtime: &Runtime, victim: usize) {
    // A launcher kills the others within milliseconds, perhaps before they have said a word.
    let mut text = String::new();
    for _ in 0..5 {
        let (output, said) = runtime.run(4, "dies", victim);
        assert!(!output.status.success(), "{said}");
        if said.contains(&format!("process {victim} on host ")) && said.contains(" is gone") {
            return;
        }
        text.push_str(&said);
    }
    panic!("{text}");
}

/// The launcher notices nothing, so the processes have to end by themselves, whatever they do.
fn stopped(runtime: &Runtime, others: &str, victim: usize) {
    let (output, text) = runtime.run(4, others, victim);
    assert!(!output.status.success(), "{text}");
    let expected = format!("error: process {victim} on host ");
    assert!(text.contains(&expected) && text.contains("has not answered for 3 s"), "{text}");
    assert!(text.contains("--resume auto"), "{text}");
}

fn aborted(runtime: &Runtime) {
    let (output, text) = runtime.run(4, "aborts", 2);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("process 2 on host ") && text.contains("stopped with an error: no space left"), "{text}");
}

fn leaves_early(runtime: &Runtime) {
    let (output, text) = runtime.run(4, "leaves", 3);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("process 3 on host ") && text.contains("it ended before the others"), "{text}");
    assert!(text.contains("something else is wrong"), "{text}");
}

fn panicked(runtime: &Runtime) {
    let (output, text) = runtime.run(2, "panics", 1);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("stopped with an error: it panicked") && text.contains("on purpose"), "{text}");
}

/// All processes are stopped for longer than one may be silent.
fn paused(runtime: &Runtime) {
    let mut command = runtime.command(&runtime.library, 2, "pauses");
    let marker = format!("{}", std::process::id());
    command.env("CAPTION_TEST_MARKER", &marker);
    let pause = base::threads::spawn("pause", move || {
        std::thread::sleep(Duration::from_secs(2));
        let processes = marked(&marker);
        signal("-STOP", &processes);
        std::thread::sleep(Duration::from_secs(5));
        signal("-CONT", &processes);
        processes.len()
    });
    let (output, text) = output(&mut command);
    assert!(pause.unwrap().join().unwrap() >= 2, "no processes were found");
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("finished").count(), 2, "{text}");
}

/// The processes of this test that have the marker in their environment, without their launcher.
fn marked(marker: &str) -> Vec<String> {
    let wanted = format!("CAPTION_TEST_MARKER={marker}");
    let has_it = |id: &String| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let program = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|pair| pair == wanted.as_bytes())
            && program == env::current_exe().unwrap()
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).filter(has_it).collect()
}

fn signal(name: &str, processes: &[String]) {
    Command::new("kill").arg(name).args(processes).status().unwrap();
}

fn the_wrong_mpirun_is_named(starts: &Runtime, opened: &Runtime) {
    let (output, text) = output(&mut starts.command(&opened.library, 2, "checks"));
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("started by another MPI than the library belongs to"), "{text}");
    assert!(text.contains("CAPTION_TRAIN_MPI"), "{text}");
}

/// Only Open MPI binds processes by itself.
fn bound(runtime: &Runtime) {
    let mut with_options = runtime.command(&runtime.library, 2, "is_bound");
    let (output, text) = output(&mut with_options);
    assert!(output.status.success() && !text.contains("bound to"), "{text}");
    let cores = std::thread::available_parallelism().unwrap().get();
    if runtime.is_open_mpi() && cores >= 4 {
        let mut default = Command::new(&runtime.mpiexec);
        for (name, value) in with_options.get_envs() {
            default.env(name, value.unwrap());
        }
        default.args(["-n", "2"]).arg(env::current_exe().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (_, text) = self::output(&mut default);
        assert!(text.contains("bound to 1 core"), "{text}");
    }
}

/// `start::processes_here`, in a process that is sent a signal.
fn start() -> i32 {
    let program = env::current_exe().unwrap();
    let arguments = ["waits_for_ctrl_c".into()];
    match caption_processes::start::processes_here(2, &program, &arguments) {
        Ok(status) => status.code().unwrap_or(99),
        Err(error) => fail(&error),
    }
}

fn wait_for_ctrl_c(world: &World) -> anyhow::Result<()> {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, std::sync::Arc::clone(&stop))?;
    world.barrier()?;
    terminal::message("ready");
    while !world.any(stop.load(std::sync::atomic::Ordering::Relaxed))? {
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a save may take: longer than a launcher waits after SIGTERM.
    std::thread::sleep(Duration::from_secs(3));
    terminal::message("saved");
    Ok(())
}

fn started_here(runtime: &Runtime) {
    use std::io::{BufRead as _, BufReader};
    let mut command = Command::new(env::current_exe().unwrap());
    command.env("CAPTION_TRAIN_MPI", &runtime.library).env(ROLE, "starts").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut text = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        text.push_str(&line);
        text.push('\n');
        if text.matches("ready").count() == 2 {
            break;
        }
    }
    signal("-INT", &[child.id().to_string()]);
    for line in lines.map_while(Result::ok) {
        text.push_str(&line);
        text.push('\n');
    }
    assert!(child.wait().unwrap().success(), "{text}");
    assert_eq!((text.matches("saved").count(), text.matches("finished").count()), (2, 2), "{text}");
}
