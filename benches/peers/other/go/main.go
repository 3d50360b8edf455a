// The program for Go: a goroutine with a buffered channel for each actor. Channels are always
// bounded, so the same code serves the unbounded and the bounded rows.
//
//	list | run WORKLOAD WORKERS SCALE LIMIT_MS ACTORS MESSAGES OPS ANSWER
//
// A run has a warm-up and the pass that counts, and prints one line of JSON.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The same constants as in the workloads crate.
const (
	capacity = 1024
	work205  = 127
	work500  = 316
	work1us  = 632
	step     = 1000
)

type run struct {
	workers            int
	actors, messages   int
	ops, answer        uint64
	started, stopped   time.Time
	cpuBegan, cpuEnded int64
	samples            []float64 // us
	measured           float64
	ideal              float64 // ns
}

type workload struct {
	name, figures string
	body          func(r *run) uint64
}

var workloads = []workload{
	{"pingpong", "ns", func(r *run) uint64 { return pairs(r, 1) }},
	{"pairs", "ns", func(r *run) uint64 { return pairs(r, r.actors) }},
	{"counting", "ns", produce},
	{"fanin", "ns", produce},
	{"fjthrput", "ns", func(r *run) uint64 { return fjthrput(r, 0) }},
	{"fjthrput-work", "ns,of ideal", func(r *run) uint64 { return fjthrput(r, work205) }},
	{"fjcreate", "ns", fjcreate},
	{"threadring", "ns", threadring},
	{"big", "ns", big},
	{"chameneos", "ns", chameneos},
	{"ask1", "p50 us,p99 us", ask},
	{"ask8", "p50 us,p99 us", ask},
	{"skew", "ns,of ideal", skew},
	{"fib", "ns", fib},
	{"idle100k", "bytes", idle},
	{"idle1m", "bytes", idle},
	{"timeslice", "p50 us,p99 us", timeslice},
	{"idlecpu", "CPU us/s", idleCPU},
	{"pingpong-bounded", "ns", func(r *run) uint64 { return pairs(r, 1) }},
	{"counting-bounded", "ns", produce},
	{"fanin-bounded", "ns", produce},
	{"fjthrput-bounded", "ns", func(r *run) uint64 { return fjthrput(r, 0) }},
}

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 1 && arguments[0] == "list" {
		names := []string{}
		for _, w := range workloads {
			names = append(names, strconv.Quote(w.name))
		}
		fmt.Printf("{\"peer\":\"go\",\"runs\":[%s],\"left_out\":{\"burst\":\"a goroutine cannot tell which thread it is on\"}}\n",
			strings.Join(names, ","))
		return
	}
	if len(arguments) != 9 || arguments[0] != "run" {
		fmt.Fprintln(os.Stderr, "usage: list | run WORKLOAD WORKERS SCALE LIMIT_MS ACTORS MESSAGES OPS ANSWER")
		os.Exit(2)
	}
	number := func(at int) int {
		n, err := strconv.Atoi(arguments[at])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return n
	}
	for _, w := range workloads {
		if w.name == arguments[1] {
			r := run{workers: number(2), actors: number(5), messages: number(6), ops: uint64(number(7)), answer: uint64(number(8))}
			one(w, r)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "go does not run", arguments[1])
	os.Exit(2)
}

func one(w workload, r run) {
	runtime.GOMAXPROCS(r.workers)
	once := strings.HasPrefix(w.name, "idle") || w.name == "timeslice"
	if !once {
		warm := r
		w.body(&warm)
		time.Sleep(10 * time.Millisecond)
	}
	iterations := map[string]int{"fjthrput-work": work205, "skew": work500}[w.name]
	if iterations > 0 {
		r.ideal = calibrate(iterations, r.workers)
	}
	answer := w.body(&r)
	wall := float64(r.stopped.Sub(r.started).Nanoseconds())
	idealNs := "null"
	if iterations > 0 {
		r.ideal = (r.ideal + calibrate(iterations, r.workers)) / 2 * float64(r.ops)
		idealNs = fmt.Sprintf("%.0f", r.ideal)
	}
	sort.Float64s(r.samples)
	figures := []string{}
	for _, label := range strings.Split(w.figures, ",") {
		value := map[string]func() float64{
			"ns":       func() float64 { return wall / float64(r.ops) },
			"of ideal": func() float64 { return wall / r.ideal },
			"p50 us":   func() float64 { return r.samples[len(r.samples)/2] },
			"p99 us":   func() float64 { return r.samples[len(r.samples)*99/100] },
			"bytes":    func() float64 { return r.measured },
			"CPU us/s": func() float64 { return r.measured },
		}[label]()
		figures = append(figures, fmt.Sprintf("%q:%.4f", label, value))
	}
	fmt.Printf("{\"peer\":\"go\",\"workload\":%q,\"workers\":%d,\"actors\":%d,\"messages\":%d,\"cut\":false,\"ok\":%t,"+
		"\"answer\":%d,\"expected\":%d,\"ops\":%d,\"wall_ns\":%.0f,\"cpu_ns\":%d,\"peak_kb\":%d,\"ideal_ns\":%s,\"figures\":{%s}}\n",
		w.name, r.workers, r.actors, r.messages, answer == r.answer, answer, r.answer, r.ops, wall, r.cpuEnded-r.cpuBegan,
		status("VmHWM:"), idealNs, strings.Join(figures, ","))
}

func (r *run) start() { r.started, r.cpuBegan = time.Now(), cpu() }
func (r *run) stop()  { r.stopped, r.cpuEnded = time.Now(), cpu() }

func cpu() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func status(field string) int {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, field) {
			kb, _ := strconv.Atoi(strings.Fields(line)[1])
			return kb
		}
	}
	return 0
}

var sink uint64

func work(iterations int) {
	x := atomic.LoadUint64(&sink) | 0x9E3779B97F4A7C15
	for i := 0; i < iterations; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 {
		atomic.StoreUint64(&sink, x)
	}
}

// calibrate returns the ns of one call of work by all workers (or cores, if fewer) together, the
// best of a few rounds.
func calibrate(iterations, workers int) float64 {
	threads := workers
	if cores := runtime.NumCPU(); threads > cores {
		threads = cores
	}
	best := 0.0
	for round := 0; round < 4; round++ {
		if calls := callsPerNs(iterations, threads); calls > best {
			best = calls
		}
	}
	return 1 / best
}

func callsPerNs(iterations, threads int) float64 {
	var rates = make([]float64, threads)
	var all sync.WaitGroup
	for at := range rates {
		all.Add(1)
		go func(at int) {
			defer all.Done()
			begin, calls := time.Now(), 0
			for time.Since(begin) < 20*time.Millisecond {
				for i := 0; i < 64; i++ {
					work(iterations)
				}
				calls += 64
			}
			rates[at] = float64(calls) / float64(time.Since(begin).Nanoseconds())
		}(at)
	}
	all.Wait()
	total := 0.0
	for _, rate := range rates {
		total += rate
	}
	return total
}
