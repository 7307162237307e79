// Command bench measures what a registration and a call cost: CPU seconds of all node processes for 1000 operations,
// with the deployment that `make up` starts, beside a Kamailio on the same machine in the same run. Servers run on the
// first core, the load on the others. It prints a table and writes it to build/bench.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

type options struct {
	rounds      int
	seconds     int
	regRate     int
	callRate    int
	subscribers int
	kamailio    bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each kind; the median counts")
	flag.IntVar(&o.seconds, "seconds", 40, "length of each; the timers of a transaction take 32 s")
	flag.IntVar(&o.regRate, "registrations", 400, "offered REGISTER-401-REGISTER-200 a second")
	flag.IntVar(&o.callRate, "calls", 100, "offered calls a second")
	flag.IntVar(&o.subscribers, "subscribers", 2000, "subscribers that take turns")
	flag.BoolVar(&o.kamailio, "kamailio", true, "measure Kamailio beside it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one measurement.
type figure struct {
	per1000 float64 // CPU seconds
	rate    float64 // operations a second that went by the script
	failed  int
	memory  int64 // bytes of all processes at the end
}

func bench(ctx context.Context, o options) (err error) {
	targets := []*target{}
	if o.kamailio {
		k, err := startKamailio(ctx, o)
		if err != nil {
			return err
		}
		defer k.stop()
		targets = append(targets, k)
	}
	d, err := startDeployment(ctx, o)
	if err != nil {
		return err
	}
	defer d.stop()
	targets = append(targets, d)
	figures := map[string][]figure{}
	for round := range o.rounds {
		for _, t := range targets { // interleaved, so that a noisy minute meets all
			for _, kind := range []string{"registration", "call"} {
				f, err := t.measure(ctx, kind, o)
				if err != nil {
					return fmt.Errorf("%s, %s, round %d: %w", t.name, kind, round+1, err)
				}
				fmt.Printf("round %d  %-11s %-13s %7.3f s CPU / 1000, %6.1f/s, %d failed, %d MB\n", round+1, t.name, kind, f.per1000, f.rate, f.failed, f.memory>>20)
				key := t.name + " " + kind
				figures[key] = append(figures[key], f)
			}
		}
	}
	table := tabulate(targets, figures)
	fmt.Print("\n", table)
	if err := os.MkdirAll("build", 0o755); err != nil {
		return err
	}
	return os.WriteFile("build/bench.md", []byte(table), 0o644)
}

// tabulate prints medians, and the ratio to Kamailio where that was measured.
func tabulate(targets []*target, figures map[string][]figure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | where | CPU s / 1000 | of Kamailio's | per second | failed | memory MB |\n|---|---|---|---|---|---|---|\n")
	for _, kind := range []string{"registration", "call"} {
		base := 0.0
		for _, t := range targets {
			m := median(figures[t.name+" "+kind])
			ratio := "-"
			if t.name == "kamailio" {
				base = m.per1000
			} else if base > 0 {
				ratio = fmt.Sprintf("%.2f", m.per1000/base)
			}
			fmt.Fprintf(&b, "| %s | %s | %.3f | %s | %.0f | %d | %d |\n", kind, t.describes[kind], m.per1000, ratio, m.rate, m.failed, m.memory>>20)
		}
	}
	fmt.Fprintf(&b, "\nmeasured %s, median of %d\n", time.Now().UTC().Format(time.DateOnly), len(figures[targets[0].name+" call"]))
	return b.String()
}

func median(list []figure) figure {
	if len(list) == 0 {
		return figure{}
	}
	sorted := slices.SortedFunc(slices.Values(list), func(a, b figure) int {
		switch {
		case a.per1000 < b.per1000:
			return -1
		case a.per1000 > b.per1000:
			return 1
		}
		return 0
	})
	return sorted[len(sorted)/2]
}
