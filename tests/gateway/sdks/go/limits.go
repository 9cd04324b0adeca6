// Functions with limits, and what ends a run from outside.
package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

var running atomic.Int32

// one lets one step of a function run at a time.
func one() *inngestgo.ConfigConcurrency {
	return &inngestgo.ConfigConcurrency{Step: []inngestgo.ConfigStepConcurrency{{Limit: 1}}}
}

func defineLimits() {
	define("throttle", Options{Throttle: &inngestgo.ConfigThrottle{Limit: 1, Period: time.Second}}, number)
	define("rate-limit", Options{RateLimit: &inngestgo.ConfigRateLimit{Limit: 1, Period: time.Hour}}, number)
	define("debounce", Options{Debounce: &inngestgo.ConfigDebounce{Period: time.Second}}, number)
	define("idempotency", Options{Idempotency: pointer("event.data.n")}, number)
	define("event-id", Options{}, number)
	defineIf("conditional", pointer("event.data.n > 1"), Options{}, number)

	define("concurrency", Options{Concurrency: one()}, func(ctx context.Context, _ Input) (any, error) {
		return step.Run(ctx, "overlap", func(context.Context) (int32, error) {
			running.Add(1)
			time.Sleep(100 * time.Millisecond)
			return running.Add(-1), nil
		})
	})

	for id, mode := range map[string]enums.SingletonMode{
		"singleton-skip": enums.SingletonModeSkip, "singleton-cancel": enums.SingletonModeCancel,
	} {
		options := Options{Singleton: &inngestgo.ConfigSingleton{Mode: mode}}
		define(id, options, func(ctx context.Context, input Input) (any, error) {
			step.Sleep(ctx, "nap", 2*time.Second)
			return input.Event.Data["n"], nil
		})
	}

	priority := &inngestgo.ConfigPriority{Run: pointer("event.data.priority")}
	define("priority", Options{Concurrency: one(), Priority: priority}, func(ctx context.Context, input Input) (any, error) {
		return step.Run(ctx, "order", func(context.Context) (any, error) {
			time.Sleep(500 * time.Millisecond)
			return []any{input.Event.Data["n"], count("priority")}, nil
		})
	})

	cancel := inngestgo.ConfigCancel{Event: app + "/cancel", If: pointer("async.data.n == event.data.n")}
	define("cancel-on", Options{Cancel: []inngestgo.ConfigCancel{cancel}},
		func(ctx context.Context, input Input) (any, error) {
			if _, err := step.Send(ctx, "cancel", Event{Name: cancel.Event, Data: input.Event.Data}); err != nil {
				return nil, err
			}
			step.Sleep(ctx, "long", time.Hour)
			return nil, nil
		})

	timeouts := &inngestgo.ConfigTimeouts{Finish: pointer(time.Second)}
	define("finish-timeout", Options{Timeouts: timeouts}, func(ctx context.Context, _ Input) (any, error) {
		step.Sleep(ctx, "long", time.Hour)
		return nil, nil
	})
}
