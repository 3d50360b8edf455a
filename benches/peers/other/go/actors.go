// The workloads: what each actor does, set up, started, and waited for.
package main

import (
	"math"
	"math/rand"
	"runtime"
	"sort"
	"sync/atomic"
	"syscall"
	"time"
)

func pairs(r *run, pairs int) uint64 {
	done := make(chan uint64, pairs)
	pings := []chan struct{}{}
	for i := 0; i < pairs; i++ {
		ping, pong := make(chan struct{}, 16), make(chan struct{}, 16)
		pings = append(pings, ping)
		go func() {
			for range pong {
				ping <- struct{}{}
			}
		}()
		go func() {
			<-ping
			got := uint64(0)
			for n := 0; n < r.messages; n++ {
				pong <- struct{}{}
				<-ping
				got++
			}
			close(pong)
			done <- got
		}()
	}
	r.start()
	for _, ping := range pings {
		ping <- struct{}{}
	}
	return r.sum(done, pairs)
}

func (r *run) sum(done chan uint64, reports int) uint64 {
	sum := uint64(0)
	for i := 0; i < reports; i++ {
		sum += <-done
	}
	r.stop()
	return sum
}

func produce(r *run) uint64 {
	done, counter := make(chan uint64, 1), make(chan uint64, capacity)
	go func() {
		sum := uint64(0)
		for left := r.actors * r.messages; left > 0; left-- {
			sum += <-counter
		}
		done <- sum
	}()
	start := make(chan struct{})
	for i := 0; i < r.actors; i++ {
		go func() {
			<-start
			for n := 0; n < r.messages; n++ {
				counter <- uint64(n)
			}
		}()
	}
	r.start()
	close(start)
	return r.sum(done, 1)
}

func fjthrput(r *run, iterations int) uint64 {
	done, leaves := make(chan uint64, r.actors), make([]chan struct{}, r.actors)
	for i := range leaves {
		leaf := make(chan struct{}, capacity)
		leaves[i] = leaf
		go func() {
			got := uint64(0)
			for n := 0; n < r.messages; n++ {
				<-leaf
				if iterations > 0 {
					work(iterations)
				}
				got++
			}
			done <- got
		}()
	}
	r.start()
	go func() {
		for n := 0; n < r.messages; n++ {
			for _, leaf := range leaves {
				leaf <- struct{}{}
			}
		}
	}()
	return r.sum(done, r.actors)
}

func fjcreate(r *run) uint64 {
	done, collector, more := make(chan uint64, 1), make(chan uint64, capacity), make(chan struct{}, 1)
	go func() {
		sum := uint64(0)
		for left := r.actors; left > 0; left-- {
			sum += <-collector
		}
		done <- sum
	}()
	go func() {
		left := r.actors
		for range more {
			for n := 0; n < step && left > 0; n++ {
				child := make(chan struct{}, 1)
				go func() {
					<-child
					collector <- 1
				}()
				child <- struct{}{}
				left--
			}
			if left == 0 {
				return
			}
			more <- struct{}{}
		}
	}()
	r.start()
	more <- struct{}{}
	return r.sum(done, 1)
}

func threadring(r *run) uint64 {
	done, nodes := make(chan uint64, 1), make([]chan int, r.actors)
	for i := range nodes {
		nodes[i] = make(chan int, 16)
	}
	for i := range nodes {
		go func(id int) {
			next := nodes[(id+1)%len(nodes)]
			for left := range nodes[id] {
				if left == 0 {
					done <- uint64(id)
				} else {
					next <- left - 1
				}
			}
		}(i)
	}
	r.start()
	nodes[0] <- r.messages
	id := r.sum(done, 1)
	for _, node := range nodes {
		close(node)
	}
	return id
}

func big(r *run) uint64 {
	done, all := make(chan uint64, r.actors), make([]chan int, r.actors)
	for i := range all {
		all[i] = make(chan int, capacity)
	}
	// -1 starts, -2 is a pong, -3 stops; all else is a ping from that actor.
	for i := range all {
		go func(id int) {
			dice, left, acked := rand.New(rand.NewSource(int64(id))), r.messages, uint64(0)
			for message := range all[id] {
				if message >= 0 {
					all[message] <- -2
					continue
				}
				if message == -3 {
					return
				}
				if message == -2 {
					acked++
				}
				if left == 0 {
					done <- acked
					continue
				}
				left--
				all[(id+1+dice.Intn(len(all)-1))%len(all)] <- id
			}
		}(i)
	}
	r.start()
	for _, actor := range all {
		actor <- -1
	}
	sum := r.sum(done, r.actors)
	for _, actor := range all {
		actor <- -3
	}
	return sum
}

type meet struct {
	kind   int // 0 meet, 1 change, 2 over, 3 count
	colour int
	count  uint64
	who    chan meet
}

func chameneos(r *run) uint64 {
	done, mall := make(chan uint64, 1), make(chan meet, capacity)
	go func() {
		var waiting chan meet
		left, ended, sum := r.messages, 0, uint64(0)
		for message := range mall {
			if message.kind == 3 {
				sum += message.count
				if ended++; ended == r.actors {
					done <- sum
					return
				}
			} else if left == 0 {
				message.who <- meet{kind: 2}
			} else if waiting == nil {
				waiting = message.who
			} else {
				left--
				waiting <- message
				waiting = nil
			}
		}
	}()
	all := make([]chan meet, r.actors)
	for i := range all {
		all[i] = make(chan meet, 16)
		go func(colour int, me chan meet) {
			met := uint64(0)
			for message := range me {
				switch message.kind {
				case 0:
					if message.who != nil {
						if message.colour != colour {
							colour = 3 - colour - message.colour
						}
						met++
						message.who <- meet{kind: 1, colour: colour}
					}
				case 1:
					colour = message.colour
					met++
				case 2:
					mall <- meet{kind: 3, count: met}
					return
				}
				mall <- meet{colour: colour, who: me}
			}
		}(i%3, all[i])
	}
	r.start()
	for _, chameneo := range all {
		chameneo <- meet{}
	}
	return r.sum(done, 1)
}

type question struct {
	n     uint64
	reply chan uint64
}

func ask(r *run) uint64 {
	done, times := make(chan uint64, r.actors), make(chan []float64, r.actors)
	r.start()
	for i := 0; i < r.actors; i++ {
		echo := make(chan question, 16)
		go func() {
			for asked := range echo {
				asked.reply <- asked.n
			}
		}()
		go func() {
			// Outside of the actors: on a thread of its own.
			runtime.LockOSThread()
			sum, samples := uint64(0), make([]float64, 0, r.messages)
			for n := 0; n < r.messages; n++ {
				begin, reply := time.Now(), make(chan uint64, 1)
				echo <- question{uint64(n), reply}
				sum += <-reply
				samples = append(samples, float64(time.Since(begin).Nanoseconds())/1e3)
			}
			close(echo)
			times <- samples
			done <- sum
		}()
	}
	sum := r.sum(done, r.actors)
	for i := 0; i < r.actors; i++ {
		r.samples = append(r.samples, <-times...)
	}
	return sum
}

func skew(r *run) uint64 {
	cumulative, total := make([]float64, r.actors), 0.0
	for rank := range cumulative {
		total += 1 / float64(rank+1)
		cumulative[rank] = total
	}
	expect, targets, right := make([]int, r.actors), make([][]int, 4), uint64(0)
	for producer := range targets {
		dice := rand.New(rand.NewSource(int64(producer)))
		for n := producer; n < r.messages; n += 4 {
			drawn := dice.Float64() * total
			rank := int(math.Min(float64(sort.SearchFloat64s(cumulative, drawn)), float64(r.actors-1)))
			target := rank * 7919 % r.actors
			expect[target]++
			right += uint64(target)
			targets[producer] = append(targets[producer], target)
		}
	}
	done, all, reports := make(chan uint64, r.actors), make([]chan struct{}, r.actors), 0
	for id, left := range expect {
		if left == 0 {
			continue
		}
		reports++
		actor := make(chan struct{}, capacity)
		all[id] = actor
		go func(id, left int) {
			sum := uint64(0)
			for ; left > 0; left-- {
				<-actor
				work(work500)
				sum += uint64(id)
			}
			done <- sum
		}(id, left)
	}
	r.start()
	for _, mine := range targets {
		go func(mine []int) {
			for n, target := range mine {
				if n%step == step-1 {
					runtime.Gosched()
				}
				all[target] <- struct{}{}
			}
		}(mine)
	}
	// Drawn with Go's own dice, so the right answer is its own too.
	r.answer = right
	return r.sum(done, reports)
}

func call(n uint64, parent chan uint64) {
	if n < 2 {
		parent <- n
		return
	}
	me := make(chan uint64, 2)
	go call(n-1, me)
	go call(n-2, me)
	parent <- <-me + <-me
}

func fib(r *run) uint64 {
	done := make(chan uint64, 1)
	r.start()
	go call(uint64(r.messages), done)
	return r.sum(done, 1)
}

func touched(actors int) (uint64, []chan int) {
	var handled uint64
	all := make([]chan int, actors)
	for i := range all {
		actor := make(chan int, 1)
		all[i] = actor
		go func() {
			state := [2]int{}
			for n := range actor {
				state[0], state[1] = state[0]+n, state[1]+1
				atomic.AddUint64(&handled, 1)
			}
		}()
		actor <- i
	}
	for atomic.LoadUint64(&handled) < uint64(actors) {
		time.Sleep(time.Millisecond)
	}
	return atomic.LoadUint64(&handled), all
}

func idle(r *run) uint64 {
	_, few := touched(100)
	before := status("VmRSS:")
	r.start()
	handled, kept := touched(r.actors)
	r.stop()
	time.Sleep(50 * time.Millisecond)
	r.measured = float64(status("VmRSS:")-before) * 1024 / float64(r.actors)
	runtime.KeepAlive(few)
	runtime.KeepAlive(kept)
	return handled
}

func idleCPU(r *run) uint64 {
	handled, kept := touched(r.actors)
	time.Sleep(100 * time.Millisecond)
	r.start()
	time.Sleep(time.Duration(r.messages) * time.Millisecond)
	r.stop()
	r.measured = float64(r.cpuEnded-r.cpuBegan) / 1e3 / r.stopped.Sub(r.started).Seconds()
	runtime.KeepAlive(kept)
	return handled
}

func timeslice(r *run) uint64 {
	var hot int32 = 1
	done, cold := make(chan []float64, 1), make(chan time.Time, 16)
	for i := 0; i < r.workers; i++ {
		actor := make(chan struct{}, r.actors+1)
		for n := 0; n < r.actors; n++ {
			actor <- struct{}{}
		}
		go func() {
			for range actor {
				if atomic.LoadInt32(&hot) == 0 {
					return
				}
				work(work1us)
				actor <- struct{}{}
			}
		}()
	}
	go func() {
		samples := []float64{}
		for len(samples) < r.messages {
			sent := <-cold
			samples = append(samples, float64(time.Since(sent).Nanoseconds())/1e3)
		}
		done <- samples
	}()
	r.start()
	sent := make(chan struct{})
	go func() {
		// Outside of the actors: on a thread of its own.
		runtime.LockOSThread()
		for n := 0; n < r.messages; n++ {
			nap := syscall.Timespec{Nsec: 1_000_000}
			syscall.Nanosleep(&nap, nil)
			cold <- time.Now()
		}
		close(sent)
	}()
	<-sent
	r.samples = <-done
	r.stop()
	atomic.StoreInt32(&hot, 0)
	return uint64(len(r.samples))
}
