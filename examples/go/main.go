// Orders of a shop: priced, packed, paid for and shipped by durable functions, served by Go's own HTTP server.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/inngest/inngestgo"
	sdkerrors "github.com/inngest/inngestgo/errors"
	"github.com/inngest/inngestgo/group"
	"github.com/inngest/inngestgo/step"
)

type Item struct {
	Price    int `json:"price"`
	Quantity int `json:"quantity"`
}

type Order struct {
	OrderID    string  `json:"order_id"`
	City       string  `json:"city"`
	PayWithinS float64 `json:"pay_within_s"`
	Items      []Item  `json:"items"`
}

type Shipped struct {
	OrderID string `json:"order_id"`
	Parcel  string `json:"parcel"`
}

type Result struct {
	OrderID string `json:"order_id"`
	Status  string `json:"status"`
	Total   int    `json:"total,omitempty"`
	Parcel  string `json:"parcel,omitempty"`
}

type Payment = inngestgo.GenericEvent[map[string]any]

func processOrder(ctx context.Context, input inngestgo.Input[Order]) (any, error) {
	order := input.Event.Data

	// Both run at a time.
	prices := group.Parallel(ctx,
		func(ctx context.Context) (any, error) {
			return step.Run(ctx, "price items", func(context.Context) (int, error) {
				total := 0
				for _, item := range order.Items {
					total += item.Price * item.Quantity
				}
				return total, nil
			})
		},
		func(ctx context.Context) (any, error) {
			return step.Run(ctx, "price shipping", func(context.Context) (int, error) {
				if order.City == "Berlin" {
					return 300, nil
				}
				return 900, nil
			})
		},
	)
	if err := prices.AnyError(); err != nil {
		return nil, err
	}
	total := prices[0].Value.(int) + prices[1].Value.(int)

	_, err := step.WaitForEvent[Payment](ctx, "payment", step.WaitForEventOpts{
		Event:   "shop/payment.received",
		If:      inngestgo.StrPtr("async.data.order_id == event.data.order_id"),
		Timeout: time.Duration(order.PayWithinS * float64(time.Second)),
	})
	if errors.Is(err, step.ErrEventNotReceived) {
		_, err := step.Run(ctx, "cancel", func(context.Context) (any, error) {
			log.Printf("order %s is cancelled", order.OrderID)
			return nil, nil
		})
		return Result{OrderID: order.OrderID, Status: "cancelled"}, err
	}
	if err != nil {
		return nil, err
	}

	step.Sleep(ctx, "packing", 2*time.Second)

	// The carrier is busy at first: the step is retried after a second, and nothing before it runs again.
	parcel, err := step.Run(ctx, "book carrier", func(context.Context) (string, error) {
		if input.InputCtx.Attempt == 0 {
			return "", sdkerrors.RetryAtError(errors.New("the carrier is busy"), time.Now().Add(time.Second))
		}
		return fmt.Sprintf("%s/%s", order.City, order.OrderID), nil
	})
	if err != nil {
		return nil, err
	}

	_, err = step.Send(ctx, "shipped", inngestgo.GenericEvent[Shipped]{
		Name: "shop/order.shipped",
		Data: Shipped{order.OrderID, parcel},
	})
	return Result{order.OrderID, "shipped", total, parcel}, err
}

func notifyCustomer(ctx context.Context, input inngestgo.Input[Shipped]) (any, error) {
	return step.Run(ctx, "send mail", func(context.Context) (string, error) {
		return fmt.Sprintf("parcel %s is on its way", input.Event.Data.Parcel), nil
	})
}

func main() {
	client, err := inngestgo.NewClient(inngestgo.ClientOpts{AppID: "go-shop"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = inngestgo.CreateFunction(client, inngestgo.FunctionOpts{ID: "process-order"},
		inngestgo.EventTrigger("shop/order.placed", nil), processOrder)
	if err != nil {
		log.Fatal(err)
	}
	_, err = inngestgo.CreateFunction(client, inngestgo.FunctionOpts{ID: "notify-customer"},
		inngestgo.EventTrigger("shop/order.shipped", nil), notifyCustomer)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/api/inngest", client.Serve())
	log.Fatal(http.ListenAndServe("127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "8080"), nil))
}
