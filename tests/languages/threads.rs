// SPDX-License-Identifier: MIT
//
// threads.rs: what a program in Rust does with std's threads, whose locks are futexes by
// syscall(): scoped threads, Mutex, Condvar, RwLock, Barrier, Once, channels, park and
// unpark, panics, thread-locals, time limits, sockets, children, and full stacks.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel, RecvTimeoutError};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock};
use std::thread;
use std::time::{Duration, Instant};

fn locks() {
    let count = Mutex::new(0u64);
    let table = RwLock::new(vec![0u64; 16]);
    thread::scope(|s| {
        for i in 0..64 {
            let (count, table) = (&count, &table);
            s.spawn(move || {
                for k in 0..500 {
                    *count.lock().unwrap() += 1;
                    if k % 20 == 0 {
                        table.write().unwrap()[i % 16] += 1;
                    } else {
                        assert!(table.read().unwrap().len() == 16);
                    }
                }
            });
        }
    });
    assert_eq!(*count.lock().unwrap(), 32000);
    assert_eq!(table.read().unwrap().iter().sum::<u64>(), 64 * 25);
}

fn conditions() {
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let threads: Vec<_> = (0..50)
        .map(|i| {
            let turn = turn.clone();
            thread::spawn(move || {
                let mut now = turn.0.lock().unwrap();
                while *now != i {
                    now = turn.1.wait(now).unwrap();
                }
                *now += 1;
                turn.1.notify_all();
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    let before = Instant::now();
    let (_guard, late) =
        turn.1.wait_timeout(turn.0.lock().unwrap(), Duration::from_millis(30)).unwrap();
    assert!(late.timed_out() && before.elapsed() >= Duration::from_millis(30));
}

fn channels() {
    let (send, receive) = channel();
    let (bounded, taken) = sync_channel(2);
    thread::scope(|s| {
        for i in 0..20u64 {
            let send = send.clone();
            s.spawn(move || (0..200).for_each(|k| send.send(i * k).unwrap()));
        }
        drop(send);
        s.spawn(move || receive.iter().for_each(|x| bounded.send(x).unwrap()));
        assert_eq!(taken.iter().sum::<u64>(), 190 * 19900);
    });
    let (_send, receive) = channel::<()>();
    assert_eq!(
        receive.recv_timeout(Duration::from_millis(20)),
        Err(RecvTimeoutError::Timeout)
    );
}

fn parks() {
    let flag = Arc::new(AtomicBool::new(false));
    let parked: Vec<_> = (0..20)
        .map(|_| {
            let flag = flag.clone();
            thread::spawn(move || {
                while !flag.load(Ordering::Acquire) {
                    thread::park();
                }
            })
        })
        .collect();
    flag.store(true, Ordering::Release);
    for t in parked {
        t.thread().unpark();
        t.join().unwrap();
    }
    thread::park_timeout(Duration::from_millis(10));
    let (barrier, once, leaders, made) =
        (Barrier::new(10), Once::new(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for _ in 0..10 {
            s.spawn(|| {
                for _ in 0..50 {
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                }
                once.call_once(|| {
                    made.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
    });
    assert_eq!((leaders.into_inner(), made.into_inner()), (50, 1));
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static MINE: RefCell<Option<Dropped>> = RefCell::new(None);
}

fn panics() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let poisoned = Arc::new(Mutex::new(0));
    std::panic::set_hook(Box::new(|_| ()));
    for i in 0..20 {
        let (dropped, poisoned) = (dropped.clone(), poisoned.clone());
        let t = thread::Builder::new().name(format!("t{i}")).spawn(move || {
            let _kept = Dropped(dropped.clone());
            MINE.with(|m| *m.borrow_mut() = Some(Dropped(dropped)));
            let _guard = poisoned.lock();
            assert_eq!(thread::current().name().unwrap(), format!("t{i}"));
            thread::yield_now();
            panic!("{}", i);
        });
        let error = t.unwrap().join().unwrap_err();
        assert_eq!(*error.downcast_ref::<String>().unwrap(), i.to_string());
    }
    let _ = std::panic::take_hook();
    assert_eq!(dropped.load(Ordering::Relaxed), 40);
    assert!(poisoned.is_poisoned());
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..40 {
                let (mut stream, _) = listener.accept().unwrap();
                s.spawn(move || {
                    let mut text = String::new();
                    stream.read_to_string(&mut text).unwrap();
                    stream.write_all(text.to_uppercase().as_bytes()).unwrap();
                });
            }
        });
        for i in 0..40 {
            s.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                write!(stream, "hello {i}").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                assert_eq!(text, format!("HELLO {i}"));
            });
        }
    });
}

fn children() {
    thread::scope(|s| {
        for i in 0..8 {
            s.spawn(move || {
                let mut child = Command::new("cat")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                write!(child.stdin.take().unwrap(), "text {i}").unwrap();
                let out = child.wait_with_output().unwrap();
                assert!(out.status.success() && out.stdout == format!("text {i}").into_bytes());
            });
        }
    });
}

fn sleeps_and_stacks() {
    let before = Instant::now();
    thread::scope(|s| {
        for i in 0..100 {
            s.spawn(move || thread::sleep(Duration::from_millis(10 + i % 10)));
        }
    });
    assert!(before.elapsed() >= Duration::from_millis(19));
    fn deep(n: u64) -> u64 {
        let room = std::hint::black_box([n; 32]);
        if n == 0 { room[0] } else { deep(n - 1) + room[31] }
    }
    let t = thread::Builder::new().stack_size(8 << 20).spawn(|| deep(20000)).unwrap();
    assert_eq!(t.join().unwrap(), 200010000);
}

fn overflow() {
    fn deep(n: u64) -> u64 {
        let room = std::hint::black_box([n; 32]);
        deep(n + 1) + room[31]
    }
    thread::spawn(|| deep(0)).join().unwrap();
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("overflow") {
        overflow();
    }
    let parts: [(&str, fn()); 8] = [
        ("locks", locks),
        ("conditions", conditions),
        ("channels", channels),
        ("parks", parks),
        ("panics", panics),
        ("sockets", sockets),
        ("children", children),
        ("sleeps and stacks", sleeps_and_stacks),
    ];
    for (name, part) in parts {
        part();
        println!("{name}");
    }
}
