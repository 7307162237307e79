// Command bench measures what a registration and a call cost: CPU seconds of the server's processes for 1000 operations,
// of single functions in a process of their own and of the deployment that `make up` starts, each beside a Kamailio on the
// same machine in the same run. Servers run on the first core, the load on the second. It prints a table and writes it to
// build/bench.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

type options struct {
	rounds      int
	seconds     int
	subscribers int
	registered  int
	kamailio    bool
	kinds       []string
	rates       map[string]int
	profile     string
}

// kinds are what is measured, in this order: single functions in a process of their own, then the whole deployment.
var kinds = []kind{
	{"registrar", "reg", 4000, "digest registrar in one process"},
	{"hop", "uac", 1000, "one stateful record-routing proxy hop"},
	{"registration", "reg", 400, "edge, router, diameter, store"},
	{"call", "uac", 100, "edge, router (orig, I-CSCF, term), edge"},
}

// kind is an operation with its SIPp scenario and how many are offered a second.
type kind struct {
	name, scenario string
	rate           int
	ours           string
}

func main() {
	o := options{rates: map[string]int{}}
	list := ""
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each kind; the median counts")
	flag.IntVar(&o.seconds, "seconds", 36, "length of each; the timers of a transaction take 32 s")
	for _, k := range kinds {
		list += "," + k.name
		flag.Func(k.name, fmt.Sprintf("offered a second (default %d)", k.rate), func(text string) error {
			n, err := strconv.Atoi(text)
			o.rates[k.name] = n
			return err
		})
	}
	flag.IntVar(&o.subscribers, "subscribers", 2000, "subscribers that take turns")
	flag.IntVar(&o.registered, "registered", 40000, "subscribers that take turns at the registrar alone")
	flag.BoolVar(&o.kamailio, "kamailio", true, "measure Kamailio beside it")
	flag.StringVar(&list, "kinds", list[1:], "what to measure")
	flag.StringVar(&o.profile, "profile", "", "folder for CPU profiles of the single functions")
	flag.Parse()
	o.kinds = strings.Split(list, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one measurement.
type figure struct {
	per1000  float64 // CPU seconds
	rate     float64 // operations a second that went by the script
	failed   int
	repeated int   // retransmissions of the load: what the server was too slow for
	memory   int64 // bytes of all processes at the end
}

func bench(ctx context.Context, o options) error {
	figures := map[string][]figure{}
	var deployed *target
	defer func() {
		if deployed != nil {
			deployed.stop()
		}
	}()
	peers, err := singles(ctx)
	if err != nil {
		return err
	}
	for round := range o.rounds {
		for _, k := range kinds {
			if !slices.Contains(o.kinds, k.name) {
				continue
			}
			if n := o.rates[k.name]; n > 0 {
				k.rate = n
			}
			ours := peers[k.name]
			if ours == nil {
				if deployed == nil {
					if deployed, err = startDeployment(ctx, o); err != nil {
						return err
					}
				}
				ours = func(options) (*target, error) { return deployed, nil }
			}
			starts := []func(options) (*target, error){ours}
			if o.kamailio {
				starts = append(starts, peers["kamailio"])
			}
			for i, start := range starts { // interleaved, so that a noisy minute meets all
				f, name, err := once(ctx, start, k, o)
				if err != nil {
					return fmt.Errorf("%s, round %d: %w", k.name, round+1, err)
				}
				fmt.Printf("round %d  %-12s %-12s %7.4f s CPU / 1000, %6.1f/s, %d failed, %d retransmissions, %d MB\n", round+1, k.name, name, f.per1000, f.rate, f.failed, f.repeated, f.memory>>20)
				key := k.name + []string{"", " kamailio"}[i]
				figures[key] = append(figures[key], f)
			}
		}
	}
	table := tabulate(o, figures)
	fmt.Print("\n", table)
	if err := os.MkdirAll("build", 0o755); err != nil {
		return err
	}
	return os.WriteFile("build/bench.md", []byte(table), 0o644)
}

// once starts a target, measures it and, unless it is the deployment, stops it.
func once(ctx context.Context, start func(options) (*target, error), k kind, o options) (figure, string, error) {
	t, err := start(o)
	if err != nil {
		return figure{}, "", err
	}
	if t.fresh {
		defer t.stop()
	}
	f, err := t.measure(ctx, k, o)
	return f, t.name, err
}

// tabulate prints medians, and the ratio to Kamailio where that was measured.
func tabulate(o options, figures map[string][]figure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | where | CPU s / 1000 | Kamailio's | ratio | per second | failed | memory MB | Kamailio's | ratio |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range kinds {
		list := figures[k.name]
		if len(list) == 0 {
			continue
		}
		m, base := median(list), median(figures[k.name+" kamailio"])
		fmt.Fprintf(&b, "| %s | %s | %.4f | %.4f | %s | %.0f | %d | %d | %d | %s |\n", k.name, k.ours, m.per1000, base.per1000, ratio(m.per1000, base.per1000),
			m.rate, m.failed, m.memory>>20, base.memory>>20, ratio(float64(m.memory), float64(base.memory)))
	}
	fmt.Fprintf(&b, "\nmeasured %s, median of %d, %d s each; Kamailio 5.6 -x tlsf, one child: registrar for registrations, one hop for calls\n", time.Now().UTC().Format(time.DateOnly), o.rounds, o.seconds)
	return b.String()
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
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
