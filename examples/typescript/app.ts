// Orders of a shop: priced, packed, paid for and shipped by durable functions, served by Node's own HTTP server.

import http from "node:http";

import { eventType, Inngest, RetryAfterError, staticSchema } from "inngest";
import { serve } from "inngest/node";

type Order = { order_id: string; city: string; pay_within_s: number; items: { price: number; quantity: number }[] };

const orderPlaced = eventType("shop/order.placed", { schema: staticSchema<Order>() });
const orderShipped = eventType("shop/order.shipped", { schema: staticSchema<{ order_id: string; parcel: string }>() });

const inngest = new Inngest({ id: "typescript-shop" });

const processOrder = inngest.createFunction(
  { id: "process-order", triggers: [orderPlaced] },
  async ({ event, step, attempt }) => {
    const { order_id, city, pay_within_s, items } = event.data;

    // Both run at a time.
    const [total, shipping] = await Promise.all([
      step.run("price items", () => items.reduce((sum, item) => sum + item.price * item.quantity, 0)),
      step.run("price shipping", () => (city === "Berlin" ? 300 : 900)),
    ]);

    const payment = await step.waitForEvent("payment", {
      event: "shop/payment.received",
      if: "async.data.order_id == event.data.order_id",
      timeout: pay_within_s * 1_000,
    });
    if (!payment) {
      await step.run("cancel", () => console.log(`order ${order_id} is cancelled`));
      return { order_id, status: "cancelled" };
    }

    await step.sleep("packing", "2s");

    // The carrier is busy at first: the step is retried after a second, and nothing before it runs again.
    const parcel = await step.run("book carrier", () => {
      if (attempt === 0) {
        throw new RetryAfterError("the carrier is busy", "1s");
      }
      return `${city}/${order_id}`;
    });

    await step.sendEvent("shipped", orderShipped.create({ order_id, parcel }));
    return { order_id, status: "shipped", total: total + shipping, parcel };
  },
);

const notifyCustomer = inngest.createFunction(
  { id: "notify-customer", triggers: [orderShipped] },
  async ({ event, step }) => step.run("send mail", () => `parcel ${event.data.parcel} is on its way`),
);

const port = Number(process.env.PORT ?? 3000);
http.createServer(serve({ client: inngest, functions: [processOrder, notifyCustomer] })).listen(port);
