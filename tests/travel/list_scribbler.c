// A kernel module with two threads. One plans: it keeps jobs on a list, and walks it. The other one audits, and
// stamps what it takes for reports. Some of them are jobs.
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>

struct job {
	struct list_head link;
	unsigned long number;
};
struct report {
	unsigned long stamp;
	unsigned long author;
};

static LIST_HEAD(jobs);
static unsigned long planned;
static void *outbox;	/* what is to be audited next */

static noinline unsigned long walk_jobs(void)
{
	struct job *job;
	unsigned long sum = 0;

	list_for_each_entry(job, &jobs, link)
		sum += job->number;
	return sum;
}

static noinline void stamp_report(struct report *report)
{
	report->stamp = 0xbad0bad0bad0bad0 + jiffies;
	report->author = current->pid;
}

static int auditor(void *unused)
{
	while (!kthread_should_stop()) {
		void *found = xchg(&outbox, NULL);

		if (found)
			stamp_report(found);
		msleep(4);
	}
	return 0;
}

static int planner(void *unused)
{
	msleep(500);	/* so that the kernel complains when the shell has said all that it says */
	while (!kthread_should_stop()) {
		struct job *job = kzalloc(sizeof(*job), GFP_KERNEL);

		job->number = ++planned;
		list_add_tail(&job->link, &jobs);
		if (planned % 16 == 0)
			outbox = job;	/* not a report: the bug's other half */
		walk_jobs();
		if (planned > 8) {
			job = list_first_entry(&jobs, struct job, link);
			list_del(&job->link);
			kfree(job);
		}
		msleep(4);
	}
	return 0;
}

static int __init scribbler_init(void)
{
	kthread_run(planner, NULL, "planner");
	kthread_run(auditor, NULL, "auditor");
	return 0;
}
module_init(scribbler_init);
MODULE_LICENSE("GPL");
